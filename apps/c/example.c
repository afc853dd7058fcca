/* Answers each line of standard input by a line. The argument: the model's file. */
#include <stdio.h>
#include <string.h>

#include MODEL_HEADER /* such as "english_pronunciation_model.h", in quotes */

int main(int num_arguments, char **arguments) {
  char line[4096];
  pocketseq_error error;
  const char *path = num_arguments > 1 ? arguments[1] : MODEL.file;
  pocketseq_model *model = pocketseq_open_file(&MODEL, path, &error);
  if (!model) {
    fprintf(stderr, "error: %s\n", error.message);
    return 1;
  }
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\r\n")] = 0;
    pocketseq_result *result = pocketseq_translate(model, line, &error);
    puts(result ? result->translations[0].text : error.message);
    pocketseq_free(result);
  }
  pocketseq_close(model);
  return 0;
}
