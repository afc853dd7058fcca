/* Calls the lines as an app does: a text per line in, its answer per line out. */
#include <stdio.h>
#include <string.h>

#include LINES

int main(void) {
  char text[4096], answer[4 * OUTPUT_LENGTH + 1];
  if (!open_model()) return 1;
  while (fgets(text, sizeof text, stdin)) {
    text[strcspn(text, "\n")] = 0;
    puts(translate(text, answer) ? answer : "(none)");
  }
  return 0;
}
