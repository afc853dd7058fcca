package org.tensorflow.lite;

import java.io.Closeable;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Map;

/**
 * The published methods that apps call (org.tensorflow.lite.Interpreter and InterpreterApi
 * of LiteRT 1.4, from their documentation), without a model behind them: the answer is the
 * text, and as long as the output where the text is "full".
 *
 * <p>Stricter than the runtime, which would resize an input of another length.
 */
public final class Interpreter implements Closeable {
  public static ByteBuffer opened;
  public static int inputLength;
  public static int outputLength;

  /** How many hypotheses {@link #runSignature} writes; the signature that was called. */
  public static int hypotheses;
  public static String called;

  /** The choices of an interpreter. */
  public static class Options {
    public Options setNumThreads(int numThreads) {
      if (numThreads != 1) {
        throw new IllegalArgumentException("expected one thread");
      }
      return this;
    }
  }

  public Interpreter(ByteBuffer byteBuffer) {
    if (!byteBuffer.isDirect()) {
      throw new IllegalArgumentException("expected a direct or a mapped ByteBuffer");
    }
    opened = byteBuffer;
  }

  public Interpreter(ByteBuffer byteBuffer, Options options) {
    this(byteBuffer);
  }

  public void runForMultipleInputsOutputs(Object[] inputs, Map<Integer, Object> outputs) {
    int[] row = ((int[][]) inputs[0])[0];
    int[] answer = ((int[][]) outputs.get(0))[0];
    if (inputs.length != 1 || row.length != inputLength || answer.length != outputLength) {
      throw new IllegalArgumentException("wrong shapes");
    }
    answer(row, answer);
  }

  /** Writes a score of minus its place to each hypothesis, and ones to the diagonals. */
  public void runSignature(
      Map<String, Object> inputs, Map<String, Object> outputs, String signatureKey) {
    called = signatureKey;
    int[][] rows = (int[][]) inputs.get("text");
    int[][] answers = (int[][]) outputs.get("text");
    float[] scores = (float[]) outputs.get("score");
    float[][][] alignment = (float[][][]) outputs.get("alignment");
    if (inputs.size() != 1 || outputs.size() != 3 || rows.length != 1
        || rows[0].length != inputLength || answers.length != hypotheses
        || scores.length != hypotheses || alignment.length != hypotheses) {
      throw new IllegalArgumentException("wrong shapes");
    }
    for (int i = 0; i < hypotheses; i++) {
      if (answers[i].length != outputLength || alignment[i].length != outputLength
          || alignment[i][0].length != inputLength) {
        throw new IllegalArgumentException("wrong shapes");
      }
      answer(rows[0], answers[i]);
      scores[i] = -i;
      for (int j = 0; j < Math.min(inputLength, outputLength); j++) {
        alignment[i][j][j] = 1;
      }
    }
  }

  private static void answer(int[] row, int[] answer) {
    Arrays.fill(answer, 0);
    System.arraycopy(row, 0, answer, 0, Math.min(row.length, answer.length));
    if (row[0] == 'f' && row[1] == 'u' && row[2] == 'l' && row[3] == 'l') {
      Arrays.fill(answer, 'x');
    }
  }

  @Override
  public void close() {}
}
