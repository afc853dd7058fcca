// What the wrapper does by itself. Argument: the path of a file to write.

package pocketseq.tests

import java.io.File
import java.nio.ByteBuffer
import java.security.MessageDigest
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit.SECONDS
import kotlin.concurrent.thread
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertNull
import kotlin.test.assertTrue
import org.tensorflow.lite.Interpreter
import pocketseq.Model
import pocketseq.ModelDescription
import pocketseq.ModelException
import pocketseq.ModelRuntime
import pocketseq.Outputs
import pocketseq.Signature
import pocketseq.openModel

private val content = "bytes of a model".toByteArray()
private val greedy = listOf(Signature("translate", 8, 8, 1), Signature("translate_4", 4, 8, 1))
private val beam = listOf(
    Signature("translate_beam", 8, 8, 3), Signature("translate_beam_4", 4, 8, 3),
)

private fun described(signatures: List<Signature> = greedy + beam): ModelDescription {
    val digest = MessageDigest.getInstance("SHA-256").digest(content)
    val hex = digest.joinToString("") { "%02x".format(it) }
    return ModelDescription("model.tflite", content.size, hex, signatures)
}

/** Answers with the text; of hypotheses there is one less than the beam holds. */
private class Echo : ModelRuntime {
    val calls = mutableListOf<Pair<String, List<Int>>>()
    var waits: CountDownLatch? = null
    val entered = CountDownLatch(1)
    var closed = 0

    override fun run(signature: Signature, text: IntArray): Outputs {
        calls += signature.name to text.toList()
        entered.countDown()
        waits?.await()
        val (_, n, m, k) = signature
        return Outputs(
            Array(k) { text.copyOf(m) },
            FloatArray(k) { if (it == k - 1 && k > 1) -1e9f else 0f - it },
            Array(k) { Array(m) { FloatArray(n) { 1f / n } } },
        )
    }

    override fun close() {
        closed++
    }
}

private fun model(
    echo: Echo,
    signatures: List<Signature> = greedy + beam,
    dictionary: Map<String, String> = emptyMap(),
) = Model(described(signatures), ByteBuffer.wrap(content), dictionary) { echo }

private val tests = mapOf<String, (String) -> Unit>(
    "a text is read in NFC, by code points, up to its first U+0000" to {
        val echo = Echo()
        val model = model(echo)
        assertEquals("\u00e9", model.translate("e\u0301\u0000x").text)
        assertEquals("\ud83d\ude00a", model.translate("\ud83d\ude00a").text)
        assertEquals(listOf(0x1F600, 'a'.code, 0, 0), echo.calls.last().second)
        assertEquals("\ufffda", model.translate("\ud800a").source)
        assertEquals("a\ufffd", model.translate("a\udc00").source)
        assertEquals(1, model.translate("\ud83d\ude00").alignment.size)
        assertEquals(1, model.translate("\ud83d\ude00").alignment[0].size)
    },
    "the whole input is written at every call, by the shortest signature that holds it" to {
        val echo = Echo()
        val model = model(echo)
        listOf("abcdefgh", "ab", "abcd", "abcde", "").forEach(model::translate)
        val names = listOf("translate", "translate_4", "translate_4", "translate", "translate_4")
        assertEquals(names, echo.calls.map { it.first })
        assertEquals(listOf(97, 98, 0, 0), echo.calls[1].second)
        assertEquals(listOf(97, 98, 99, 100, 101, 0, 0, 0), echo.calls[3].second)
        assertEquals(listOf(0, 0, 0, 0), echo.calls[4].second)
        model.best("ab")
        model.best("abcde")
        assertEquals(listOf("translate_beam_4", "translate_beam"), echo.calls.drop(5).map { it.first })
    },
    "a text that is too long is cut at the last whitespace that fits" to {
        val model = model(Echo())
        for ((text, expected) in listOf(
            "abcd efghi" to "abcd", "abcdefgh ij" to "abcdefgh", "abcdefghi j" to "abcdefgh",
            "ab \u3000\u00a0 cdefgh" to "ab", "        a" to "        ",
            " abcdefgh" to " abcdefg", "ab cd\u2028efghi" to "ab cd", "abcdefgh" to "abcdefgh",
            "a\u001cbcdefghi" to "a\u001cbcdefg", "\ud83d\ude00".repeat(9) to "\ud83d\ude00".repeat(8),
        )) {
            assertEquals(expected, model.translate(text).source)
        }
    },
    "answers are remembered, and not without end" to {
        val echo = Echo()
        val model = model(echo)
        repeat(3) { model.translate("ab") }
        model.translate("ab\u0000cd")
        assertEquals(1, echo.calls.size)
        model.best("ab")
        assertEquals(2, echo.calls.size)
        repeat(400) { model.translate("w$it") }
        model.translate("ab")
        assertEquals(403, echo.calls.size)
        model.translate("w399")
        assertEquals(403, echo.calls.size)
    },
    "a dictionary comes first" to {
        val echo = Echo()
        val long = "abc ".repeat(9)
        val model = model(
            echo, dictionary = mapOf("e\u0301" to "B \ud83d\ude00", long to "long", "" to "empty"),
        )
        val found = model.translate("\u00e9")
        assertEquals("B \ud83d\ude00" to 0f, found.text to found.score)
        assertEquals(3, found.alignment.size)
        assertContentEquals(floatArrayOf(1f), found.alignment[2])
        assertEquals("B \ud83d\ude00", model.best("e\u0301").single().text)
        assertEquals("long", model.translate(long).text)
        assertEquals("empty", model.translate("").text)
        assertEquals(0, echo.calls.size)
    },
    "a beam gives what it has found, best first" to {
        val found = model(Echo()).best("ab")
        assertEquals(listOf(0f, -1f), found.map { it.score })
        assertTrue(model(Echo()).hasBeam)
        assertFalse(model(Echo(), greedy).hasBeam)
        val problem = assertFailsWith<ModelException> { model(Echo(), greedy).best("ab") }
        assertEquals("the file has no beam, expected an export with --beam", problem.message)
    },
    "other bytes are refused before the runtime sees them" to {
        for (bytes in listOf(ByteArray(0), content + 0, content.copyOf(5), content.reversedArray())) {
            var seen: ByteBuffer? = null
            val problem = assertFailsWith<ModelException> {
                Model(described(), ByteBuffer.wrap(bytes)) { seen = it; Echo() }
            }
            assertTrue(problem.message!!.startsWith("model.tflite: damaged, or of another export: "))
            assertFalse("\n" in problem.message!!)
            assertNull(seen)
        }
        var remaining = 0
        Model(described(), ByteBuffer.wrap(content)) { remaining = it.remaining(); Echo() }
        assertEquals(content.size, remaining)
    },
    "a thread that waits for its turn can be interrupted, and others go on" to {
        val echo = Echo().apply { waits = CountDownLatch(1) }
        val model = model(echo)
        val first = thread { model.translate("a") }
        echo.entered.await()
        val executor = Executors.newSingleThreadExecutor()
        val waiting = executor.submit { model.translate("b") }
        Thread.sleep(50)
        assertTrue(waiting.cancel(true))
        executor.shutdown()
        assertTrue(executor.awaitTermination(10, SECONDS))
        echo.waits!!.countDown()
        first.join()
        assertEquals(listOf("translate_4"), echo.calls.map { it.first })
        assertEquals("c", model.translate("c").text)
    },
    "many threads get their own answers" to {
        val model = model(Echo())
        val threads = List(8) { i ->
            thread { repeat(200) { assertEquals("t$i$it", model.translate("t$i$it").text) } }
        }
        threads.forEach { it.join() }
    },
    "closing closes the runtime" to {
        val echo = Echo()
        model(echo).close()
        assertEquals(1, echo.closed)
    },
    "LiteRT is given what its interface takes" to { path ->
        File(path).writeBytes(content)
        val model = openModel(File(path), described())
        for ((name, n, m, k) in greedy + beam) {
            Interpreter.inputLength = n
            Interpreter.outputLength = m
            Interpreter.hypotheses = k
            val text = "abcdefgh".take(n)
            val found = if (k > 1) model.best(text) else listOf(model.translate(text))
            assertEquals(name, Interpreter.called)
            assertEquals(List(k) { text }, found.map { it.text })
            assertEquals(List(k) { 0f - it }, found.map { it.score })
            assertContentEquals(FloatArray(n) { if (it == 1) 1f else 0f }, found[0].alignment[1])
        }
        assertTrue(Interpreter.opened.isDirect)
        assertEquals(content.size, Interpreter.opened.remaining())
        model.close()
        File(path).appendText("0")
        assertFailsWith<ModelException> { openModel(File(path), described()) }
        val problem = assertFailsWith<ModelException> { openModel(File("$path-no"), described()) }
        assertEquals("$path-no: cannot be read", problem.message)
    },
)

fun main(arguments: Array<String>) {
    for ((name, test) in tests) {
        test(arguments[0])
        println(name)
    }
}
