package pocketseq.tests

import java.io.File
import pocketseq.ModelRuntime
import pocketseq.Outputs
import pocketseq.Signature

/**
 * Stands in for the runtime: answers from a table that a test has made with the model.
 *
 * A line per call: the signature, the code points of the text, and for each hypothesis its
 * score, its code points and its alignment, row by row; apart by tabs.
 */
class Table(path: String) : ModelRuntime {
    private val answers = File(path).readLines().map { it.split('\t') }
        .associate { (it[0] to it[1]) to it.drop(2).chunked(3) }
    val calls = mutableListOf<String>()

    override fun run(signature: Signature, text: IntArray): Outputs {
        check(text.size == signature.sourceLength)
        val length = text.indexOf(0).let { if (it < 0) text.size else it }
        check(text.drop(length).all { it == 0 })
        calls += signature.name
        val codes = text.take(length).joinToString(" ")
        val found = checkNotNull(answers[signature.name to codes]) { "${signature.name}: $codes" }
        val (_, n, m, k) = signature
        val outputs = Outputs(Array(k) { IntArray(m) }, FloatArray(k) { -3e38f },
            Array(k) { Array(m) { FloatArray(n) } })
        found.forEachIndexed { i, (score, answer, alignment) ->
            outputs.score[i] = score.toFloat()
            val row = numbers(answer).map { it.toInt() }
            row.forEachIndexed { j, code -> outputs.text[i][j] = code }
            numbers(alignment).forEachIndexed { j, share ->
                outputs.alignment[i][j / length][j % length] = share.toFloat()
            }
        }
        return outputs
    }

    override fun close() {}
}

private fun numbers(text: String) = text.split(' ').filter { it.isNotEmpty() }
