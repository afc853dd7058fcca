// As published by AndroidX (Compose UI 1.7).
package androidx.compose.ui

interface Modifier {
    companion object : Modifier
}
