// As published by AndroidX (Material 3 1.3).
package androidx.compose.material3

import androidx.compose.runtime.Composable

fun MaterialTheme(content: @Composable () -> Unit): Unit = error("a stub: $content")

fun Text(text: String): Unit = error("a stub: $text")

fun TextField(value: String, onValueChange: (String) -> Unit, singleLine: Boolean = false): Unit =
    error("a stub: $value $onValueChange $singleLine")
