// As published by AndroidX (activity-compose 1.9).
package androidx.activity

import android.os.Bundle

open class ComponentActivity : android.content.Context() {
    override fun getAssets() = error("a stub")
    protected open fun onCreate(savedInstanceState: Bundle?) {}
    val applicationContext: android.content.Context get() = this
}
