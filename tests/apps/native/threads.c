/* Translates in several threads, each with a model of its own.
 *
 * The argument: the model's file. Every thread must answer as the first one does.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include MODEL_HEADER

enum { THREADS = 4, WORDS = 300, SIZE = 512 };

static const char *path;
static char answers[THREADS][WORDS][SIZE];

static void *translate_all(void *answers_of_one) {
  char(*own)[SIZE] = answers_of_one;
  pocketseq_model *model = pocketseq_open_file(&MODEL, path, NULL);
  for (int i = 0; model && i < WORDS; i++) {
    char word[16];
    snprintf(word, sizeof word, "%c%c%c", 'a' + i % 6, 'a' + i / 6 % 6, 'a' + i / 36 % 6);
    pocketseq_result *result = pocketseq_translate(model, word, NULL);
    if (result) snprintf(own[i], SIZE, "%s", result->translations[0].text);
    pocketseq_free(result);
  }
  pocketseq_close(model);
  return NULL;
}

int main(int num_arguments, char **arguments) {
  pthread_t threads[THREADS];
  if (num_arguments != 2) return 2;
  path = arguments[1];
  for (int i = 0; i < THREADS; i++)
    pthread_create(&threads[i], NULL, translate_all, answers[i]);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (int i = 1; i < THREADS; i++)
    if (memcmp(answers[i], answers[0], sizeof answers[0])) return 1;
  return answers[0][WORDS - 1][0] ? 0 : 1;
}
