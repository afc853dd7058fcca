// Answers calls for a test, as calls.c does, but for texts as hex digits of their UTF-16
// units. Arguments: the model's file, the table of its answers, and how often to answer.

package pocketseq.tests

import java.io.File
import java.nio.ByteBuffer
import pocketseq.Model
import pocketseq.Translation
import pocketseq.backwardsModel

private fun text(hex: String) = hex.chunked(4).map { it.toInt(16).toChar() }.joinToString("")

private fun hex(text: String) = text.toByteArray().joinToString("") { "%02x".format(it) }

private fun put(found: List<Translation>) {
    val answers = found.map { one ->
        val columns = one.source.codePointCount(0, one.source.length)
        val shares = one.alignment.flatMap { it.toList() }
        check(one.alignment.all { it.size == columns })
        listOf(hex(one.text), one.score, one.alignment.size, columns, *shares.toTypedArray())
            .joinToString(" ")
    }
    println((listOf(hex(found[0].source)) + answers).joinToString("\t"))
}

fun main(arguments: Array<String>) {
    val (file, table, times) = arguments
    val model = Model(backwardsModel, ByteBuffer.wrap(File(file).readBytes())) { Table(table) }
    for (line in generateSequence(::readlnOrNull)) {
        val (verb, hex) = line.split(' ')
        repeat(times.toInt()) {
            put(if (verb == "best") model.best(text(hex)) else listOf(model.translate(text(hex))))
        }
    }
    model.close()
}
