// As published by kotlinx.coroutines 1.9.
package kotlinx.coroutines

import kotlin.coroutines.CoroutineContext
import kotlin.coroutines.EmptyCoroutineContext

object Dispatchers {
    val Default: CoroutineContext = EmptyCoroutineContext
}

suspend fun <T> runInterruptible(context: CoroutineContext, block: () -> T): T =
    error("a stub: $context $block")
