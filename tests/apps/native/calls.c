/* Answers calls for a test. The arguments: the model's file, and how often to answer.
 *
 * On standard input a call per line: "translate" or "best" and the text as hex digits;
 * "entry", a text and an answer add to the dictionary. On standard output a line per
 * call: the source, then for each translation its text, as hex digits, its score and
 * its alignment, row by row; or "error" and the message.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include MODEL_HEADER

static char *from_hex(const char *hex) {
  size_t length = strlen(hex) / 2;
  char *text = malloc(length + 1);
  for (size_t i = 0; i < length; i++) {
    unsigned byte = 0;
    sscanf(hex + 2 * i, "%2x", &byte);
    text[i] = (char)byte;
  }
  text[length] = 0;
  return text;
}

static void put_hex(const char *text) {
  for (; *text; text++) printf("%02x", (unsigned char)*text);
}

static void put(const pocketseq_result *result) {
  put_hex(result->source);
  for (size_t i = 0; i < result->num_translations; i++) {
    const pocketseq_translation *one = &result->translations[i];
    printf("\t");
    put_hex(one->text);
    printf(" %.9g %zu %zu", one->score, one->length, result->source_length);
    for (size_t j = 0; j < one->length * result->source_length; j++)
      printf(" %.9g", one->alignment[j]);
  }
  printf("\n");
}

static void answer(pocketseq_model *model, char *line, int times) {
  static pocketseq_entry entries[16];
  static size_t num_entries;
  pocketseq_error error;
  const char *verb = strtok(line, " "), *hex = strtok(NULL, " ");
  char *text = from_hex(hex ? hex : "");
  if (strcmp(verb, "entry") == 0) {
    hex = strtok(NULL, " ");
    entries[num_entries++] = (pocketseq_entry){text, from_hex(hex ? hex : "")};
    pocketseq_set_dictionary(model, entries, num_entries, &error);
    return;
  }
  for (int i = 0; i < times; i++) {
    pocketseq_result *result = strcmp(verb, "best") == 0
                                   ? pocketseq_best(model, text, &error)
                                   : pocketseq_translate(model, text, &error);
    if (result)
      put(result);
    else
      printf("error\t%s\n", error.message);
    pocketseq_free(result);
  }
  free(text);
}

int main(int num_arguments, char **arguments) {
  static char line[1 << 20];
  pocketseq_error error;
  if (num_arguments != 3) return 2;
  pocketseq_model *model = pocketseq_open_file(&MODEL, arguments[1], &error);
  if (!model) {
    printf("error\t%s\n", error.message);
    return 1;
  }
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    answer(model, line, atoi(arguments[2]));
  }
  pocketseq_close(model);
  return 0;
}
