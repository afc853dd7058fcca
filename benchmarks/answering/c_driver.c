/* Lets the wrapper for C answer, as `runtimes.py` asks. The argument: the model's file.
 *
 * On standard input a call per line: "translate" or "translate_beam", and the text as hex
 * digits. On standard output a line per call: for each translation its text, as hex
 * digits, and its score. The last line: the milliseconds until the answer to a first
 * text, and by how many kilobytes the peak of memory rose.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include MODEL_HEADER

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

/* A size of this process: "VmRSS", that of now, or "VmHWM", the peak. */
static long memory_kilobytes(const char *key) {
  char line[256];
  long size = 0;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, key, strlen(key))) size = atol(line + strlen(key) + 1);
  if (file) fclose(file);
  return size;
}

/* Lets the peak begin anew. */
static void begin_peak(void) {
  FILE *file = fopen("/proc/self/clear_refs", "w");
  if (file) fputs("5", file), fclose(file);
}

static void from_hex(char *hex) { /* in place */
  size_t length = strlen(hex) / 2;
  for (size_t i = 0; i < length; i++) {
    unsigned byte = 0;
    sscanf(hex + 2 * i, "%2x", &byte);
    hex[i] = (char)byte;
  }
  hex[length] = 0;
}

static int answer(pocketseq_model *model, const char *signature, const char *text) {
  pocketseq_error error;
  pocketseq_result *result = strcmp(signature, "translate")
                                 ? pocketseq_best(model, text, &error)
                                 : pocketseq_translate(model, text, &error);
  if (!result) return fprintf(stderr, "%s\n", error.message), 1;
  for (size_t i = 0; i < result->num_translations; i++) {
    const char *at = result->translations[i].text;
    for (printf("t"); *at; at++) printf("%02x", (unsigned char)*at);
    printf(" %.9g ", result->translations[i].score);
  }
  printf("\n");
  pocketseq_free(result);
  return 0;
}

int main(int num_arguments, char **arguments) {
  static char line[1 << 16];
  pocketseq_error error;
  if (num_arguments != 2) return 2;
  begin_peak();
  long before = memory_kilobytes("VmRSS");
  double start = milliseconds();
  pocketseq_model *model = pocketseq_open_file(&MODEL, arguments[1], &error);
  if (!model) return fprintf(stderr, "%s\n", error.message), 1;
  pocketseq_free(pocketseq_translate(model, "a", &error));
  double loaded = milliseconds() - start;
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    char *text = strchr(line, ' ');
    *text++ = 0;
    from_hex(text);
    if (answer(model, line, text)) return 1;
  }
  printf("%.3f %ld\n", loaded, memory_kilobytes("VmHWM") - before);
  pocketseq_close(model);
  return 0;
}
