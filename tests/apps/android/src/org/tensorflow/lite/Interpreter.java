package org.tensorflow.lite;

import java.io.Closeable;
import java.nio.ByteBuffer;
import java.util.Map;

/**
 * The published methods that the lines call, without a model behind them: the answer is
 * the text, and as long as the output where the text is "full".
 *
 * <p>Stricter than the runtime, which would resize an input of another length.
 */
public final class Interpreter implements Closeable {
  public static ByteBuffer opened;
  public static int inputLength;
  public static int outputLength;

  public Interpreter(ByteBuffer byteBuffer) {
    if (!byteBuffer.isDirect()) {
      throw new IllegalArgumentException("expected a direct or a mapped ByteBuffer");
    }
    opened = byteBuffer;
  }

  public void runForMultipleInputsOutputs(Object[] inputs, Map<Integer, Object> outputs) {
    int[] row = ((int[][]) inputs[0])[0];
    int[] answer = ((int[][]) outputs.get(0))[0];
    if (inputs.length != 1 || row.length != inputLength || answer.length != outputLength) {
      throw new IllegalArgumentException("wrong shapes");
    }
    java.util.Arrays.fill(answer, 0);
    System.arraycopy(row, 0, answer, 0, row.length);
    if (row[0] == 'f' && row[1] == 'u' && row[2] == 'l' && row[3] == 'l') {
      java.util.Arrays.fill(answer, 'x');
    }
  }

  @Override
  public void close() {}
}
