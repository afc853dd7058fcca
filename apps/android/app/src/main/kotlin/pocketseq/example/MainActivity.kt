package pocketseq.example

import android.os.Bundle
import androidx.activity.ComponentActivity
import androidx.activity.compose.setContent
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.padding
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.Text
import androidx.compose.material3.TextField
import androidx.compose.runtime.Composable
import androidx.compose.runtime.LaunchedEffect
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.remember
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.dp
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.runInterruptible
import pocketseq.ModelException
import pocketseq.englishPronunciationModel
import pocketseq.openModel

/** A line to type in, and what the model answers. */
class MainActivity : ComponentActivity() {
    // Opened by the first call, and so off the main thread.
    private val model by lazy { openModel(applicationContext, englishPronunciationModel) }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContent { MaterialTheme { Screen(::answer) } }
    }

    private suspend fun answer(text: String): String = runInterruptible(Dispatchers.Default) {
        try {
            model.translate(text).text
        } catch (error: ModelException) {
            error.message.orEmpty()
        }
    }
}

@Composable
fun Screen(translate: suspend (String) -> String) {
    var text by remember { mutableStateOf("phone") }
    var answer by remember { mutableStateOf("") }
    // Another letter cancels the call that is under way.
    LaunchedEffect(text) { answer = translate(text) }
    Column(Modifier.padding(24.dp)) {
        TextField(value = text, onValueChange = { text = it }, singleLine = true)
        Text(answer)
    }
}
