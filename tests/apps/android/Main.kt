// Calls the lines as an app does. Arguments: an archive, the model's name, where it lies
// in the archive and how long it is, N, M. On standard input a text per line, as UTF-16
// units; on standard output the code points of its answer, after the model's first bytes.

import android.content.Context
import android.content.res.AssetManager
import org.tensorflow.lite.Interpreter

fun main(arguments: Array<String>) {
    val (archive, name, offset, length) = arguments
    Interpreter.inputLength = arguments[4].toInt()
    Interpreter.outputLength = arguments[5].toInt()
    val model = openModel(object : Context() {
        override fun getAssets() = AssetManager(archive, name, offset.toLong(), length.toLong())
    })
    val opened = ByteArray(Interpreter.opened.remaining()).also { Interpreter.opened.get(it) }
    println("${opened.size} ${opened.contentHashCode()}")
    for (line in generateSequence(::readlnOrNull)) {
        val units = line.split(' ').filter { it.isNotEmpty() }.map { it.toInt().toChar() }
        val answer = model.translate(String(units.toCharArray()))
        println(answer.codePoints().toArray().joinToString(" "))
    }
    model.close()
}
