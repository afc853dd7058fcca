// As published by AndroidX (Compose runtime 1.7), without the compiler's plugin.
package androidx.compose.runtime

import kotlin.reflect.KProperty

@Target(AnnotationTarget.FUNCTION, AnnotationTarget.TYPE)
annotation class Composable

interface MutableState<T> {
    var value: T
}

fun <T> mutableStateOf(value: T): MutableState<T> = error("a stub: $value")

operator fun <T> MutableState<T>.getValue(thisObj: Any?, property: KProperty<*>): T = value

operator fun <T> MutableState<T>.setValue(thisObj: Any?, property: KProperty<*>, value: T) {
    this.value = value
}

fun <T> remember(calculation: () -> T): T = calculation()

interface CoroutineScope

fun LaunchedEffect(key1: Any?, block: suspend CoroutineScope.() -> Unit): Unit =
    error("a stub: $key1 $block")
