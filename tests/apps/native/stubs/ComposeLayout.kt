// As published by AndroidX (Compose foundation 1.7).
package androidx.compose.foundation.layout

import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.Dp

interface ColumnScope

fun Column(modifier: Modifier = Modifier, content: @Composable ColumnScope.() -> Unit): Unit =
    error("a stub: $modifier $content")

fun Modifier.padding(all: Dp): Modifier = error("a stub: $all")
