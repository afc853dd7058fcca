package pocketseq

import android.content.Context
import java.io.File
import java.io.FileInputStream
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.channels.FileChannel.MapMode.READ_ONLY
import org.tensorflow.lite.Interpreter

/**
 * Calls a model by LiteRT's interpreter, on one thread.
 *
 * @throws ModelException the interpreter cannot run it.
 */
class LiteRtRuntime(bytes: ByteBuffer) : ModelRuntime {
    private val interpreter = try {
        Interpreter(bytes, Interpreter.Options().setNumThreads(1))
    } catch (error: IllegalArgumentException) {
        throw ModelException("LiteRT cannot run the model, expected 1.4.2 or newer", error)
    }

    override fun run(signature: Signature, text: IntArray): Outputs {
        val (_, sourceLength, targetLength, hypotheses) = signature
        val outputs = Outputs(
            Array(hypotheses) { IntArray(targetLength) },
            FloatArray(hypotheses),
            Array(hypotheses) { Array(targetLength) { FloatArray(sourceLength) } },
        )
        interpreter.runSignature(
            mapOf("text" to arrayOf(text)),
            mapOf(
                "text" to outputs.text,
                "score" to outputs.score,
                "alignment" to outputs.alignment,
            ),
            signature.name,
        )
        return outputs
    }

    override fun close() = interpreter.close()
}

/**
 * Opens a model from the app's assets, in which it must not be compressed: `noCompress`.
 *
 * Hashes the whole file, so call it off the main thread, once.
 *
 * @throws ModelException there is no such asset, or not the one described.
 */
fun openModel(
    context: Context,
    description: ModelDescription,
    dictionary: Map<String, String> = emptyMap(),
): Model {
    // Mapped, since nothing changes the archive of an app while it runs.
    val bytes = try {
        context.assets.openFd(description.file).use {
            FileInputStream(it.fileDescriptor).channel
                .map(READ_ONLY, it.startOffset, it.declaredLength)
        }
    } catch (error: IOException) {
        throw ModelException("${description.file}: no asset that is not compressed", error)
    }
    return Model(description, bytes, dictionary, ::LiteRtRuntime)
}

/**
 * Opens a model from a file, such as one that was downloaded.
 *
 * @throws ModelException there is no such file, or not the one described.
 */
fun openModel(
    file: File,
    description: ModelDescription,
    dictionary: Map<String, String> = emptyMap(),
): Model {
    // Never mapped: a file that is cut off meanwhile ends the process.
    val content = try {
        file.readBytes()
    } catch (error: IOException) {
        throw ModelException("$file: cannot be read", error)
    }
    val bytes = ByteBuffer.allocateDirect(content.size).put(content)
    bytes.flip()
    return Model(description, bytes, dictionary, ::LiteRtRuntime)
}
