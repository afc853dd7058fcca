package pocketseq

import java.nio.ByteBuffer
import java.security.MessageDigest
import java.text.Normalizer
import java.util.concurrent.locks.ReentrantLock

/** One way to call a model, such as `translate_beam_256`. Lengths are in code points. */
data class Signature(
    val name: String,
    val sourceLength: Int,
    val targetLength: Int,
    /** How many translations a call gives at most. */
    val hypotheses: Int,
) {
    val hasBeam get() = name.startsWith("translate_beam")
}

/** The file of a model. An export writes one, into a source of its own. */
data class ModelDescription(
    val file: String,
    val bytes: Int,
    /** Hex digits, in lower case. */
    val sha256: String,
    val signatures: List<Signature>,
)

/** The file cannot be used, in one line. */
class ModelException(message: String, cause: Throwable? = null) : Exception(message, cause)

/**
 * One answer.
 *
 * [score]: the mean log-probability of its tokens, at most 0; 0 from a dictionary.
 * [source]: what was read of the given text. [alignment]: a row for each code point of
 * [text], and in it a number for each code point of [source]: the share of the row's
 * character that came from that one.
 */
class Translation(
    val text: String,
    val score: Float,
    val source: String,
    val alignment: List<FloatArray>,
)

/** What a model writes, best first: `[K, M]`, `[K]` and `[K, M, N]`. */
class Outputs(
    val text: Array<IntArray>,
    val score: FloatArray,
    val alignment: Array<Array<FloatArray>>,
)

/** Calls a model: all that is known here of the library that does so. */
interface ModelRuntime : AutoCloseable {
    /** Calls a signature by its name; [text] is as long as its input. */
    fun run(signature: Signature, text: IntArray): Outputs
}

/**
 * A model that translates short text. May be called from any thread, one call at a time.
 *
 * A call takes about a millisecond per word: longer than a frame may wait, so make it off
 * the main thread. A thread that waits for its turn can be interrupted, which is how
 * `runInterruptible` of kotlinx.coroutines and `Future.cancel(true)` cancel a call.
 *
 * @param description what the export wrote.
 * @param bytes of the file, which must not change. Any other ones are refused before the
 *   runtime sees them: it would crash on most.
 * @param dictionary `text to answer`, which come before the model's own.
 * @param open makes the runtime from the bytes.
 * @throws ModelException the bytes are not those described.
 */
class Model(
    private val description: ModelDescription,
    bytes: ByteBuffer,
    dictionary: Map<String, String> = emptyMap(),
    open: (ByteBuffer) -> ModelRuntime,
) : AutoCloseable {
    private val lock = ReentrantLock()
    private val runtime: ModelRuntime
    private val dictionary = dictionary.entries.associate { read(it.key).joined() to it.value }
    private val remembered = LeastRecentlyUsed<Pair<String, Boolean>, List<Translation>>(256)
    private val longest = description.signatures.maxOf { it.sourceLength }

    init {
        check(description, bytes)
        runtime = open(bytes)
    }

    /** Whether [best] gives more than one answer. */
    val hasBeam = description.signatures.any { it.hasBeam }

    /** Returns the answer to a text, of which too much is cut at whitespace. */
    fun translate(text: String): Translation = ask(text, withBeam = false).first()

    /**
     * Returns the best answers to a text, best first, by the search with a beam.
     *
     * @throws ModelException the file was exported without a beam.
     */
    fun best(text: String): List<Translation> {
        if (!hasBeam) throw ModelException("the file has no beam, expected an export with --beam")
        return ask(text, withBeam = true)
    }

    override fun close() {
        lock.lock()
        try {
            runtime.close()
        } finally {
            lock.unlock()
        }
    }

    private fun ask(text: String, withBeam: Boolean): List<Translation> {
        val whole = read(text)
        dictionary[whole.joined()]?.let { return listOf(byHeart(whole, it)) }
        val codes = cut(whole, longest)
        val source = codes.joined()
        lock.lockInterruptibly()
        try {
            return remembered.getOrPut(source to withBeam) { run(codes, source, withBeam) }
        } finally {
            lock.unlock()
        }
    }

    private fun run(codes: IntArray, source: String, withBeam: Boolean): List<Translation> {
        val signature = description.signatures
            .filter { it.hasBeam == withBeam && it.sourceLength >= codes.size }
            .minBy { it.sourceLength }
        // All of the input: what an earlier, longer text left would be read, too.
        val outputs = runtime.run(signature, codes.copyOf(signature.sourceLength))
        return outputs.text.indices.takeWhile { outputs.score[it] >= NO_SCORE }.map { i ->
            val answer = outputs.text[i].takeWhile { it != 0 }.toIntArray()
            val alignment = outputs.alignment[i].take(answer.size)
            Translation(
                answer.joined(), outputs.score[i], source, alignment.map { it.copyOf(codes.size) },
            )
        }
    }
}

/** Hypotheses that do not exist have a score below this. */
private const val NO_SCORE = -1e6f

private const val REPLACEMENT = 0xFFFD

private fun check(description: ModelDescription, bytes: ByteBuffer) {
    val problem = "${description.file}: damaged, or of another export: it does not have the expected"
    if (bytes.remaining() != description.bytes) {
        throw ModelException("$problem ${description.bytes} bytes")
    }
    val digest = MessageDigest.getInstance("SHA-256").apply { update(bytes.duplicate()) }.digest()
    val hex = digest.joinToString("") { "%02x".format(it) }
    if (hex != description.sha256) throw ModelException("$problem SHA-256")
}

/** Returns the code points of a text in NFC, up to its first U+0000. */
internal fun read(text: String): IntArray =
    Normalizer.normalize(text.substringBefore('\u0000'), Normalizer.Form.NFC)
        .codePoints()
        // Half of a surrogate pair is no character.
        .map { if (it in 0xD800..0xDFFF) REPLACEMENT else it }
        .toArray()

internal fun IntArray.joined() = String(this, 0, size)

/** Cuts a text that is too long at the last whitespace that leaves a whole word. */
internal fun cut(codes: IntArray, longest: Int): IntArray {
    if (codes.size <= longest) return codes
    // The whitespace itself need not fit.
    var end = longest + 1
    while (end > 0 && !isWhitespace(codes[end - 1])) end--
    while (end > 0 && isWhitespace(codes[end - 1])) end--
    return codes.copyOf(if (end > 0) end else longest)
}

/** Whether a code point has the Unicode property White_Space. */
private fun isWhitespace(code: Int) = when (code) {
    in 0x09..0x0D, 0x20, 0x85, 0xA0, 0x1680, in 0x2000..0x200A -> true
    0x2028, 0x2029, 0x202F, 0x205F, 0x3000 -> true
    else -> false
}

/** An answer from a dictionary, which came evenly from all of the source. */
private fun byHeart(source: IntArray, answer: String): Translation {
    val length = answer.codePointCount(0, answer.length)
    return Translation(
        answer, 0f, source.joined(), List(length) { FloatArray(source.size) { 1f / source.size } },
    )
}

/** A map that forgets what was not asked for the longest. */
private class LeastRecentlyUsed<K, V>(private val most: Int) : LinkedHashMap<K, V>(16, 0.75f, true) {
    override fun removeEldestEntry(eldest: MutableMap.MutableEntry<K, V>?) = size > most
}
