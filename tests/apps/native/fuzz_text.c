/* For libFuzzer: the reading and writing of text, with any bytes. */
#include "../../../apps/c/pocketseq.c"

#define EXPECT(condition) \
  if (!(condition)) __builtin_trap()

/* What was read is UTF-8 in its shortest form, and goes there and back. */
static void check_reading(const reading *source) {
  char *again = malloc(4 * source->length + 1);
  EXPECT(again);
  encode_all(again, source->codes, source->length);
  EXPECT(strcmp(again, source->text) == 0);
  free(again);
  for (size_t i = 0; i < source->length; i++)
    EXPECT(source->codes[i] > 0 && source->codes[i] <= 0x10FFFF &&
           (source->codes[i] < 0xD800 || source->codes[i] > 0xDFFF));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  reading source, second;
  if (size < 1) return 0;
  size_t longest = 1 + bytes[0] % 16;
  char *text = malloc(size);
  memcpy(text, bytes + 1, size - 1);
  text[size - 1] = 0;
  EXPECT(read_text(text, &source));
  check_reading(&source);
  EXPECT(read_text(source.text, &second) && strcmp(source.text, second.text) == 0);
  forget(&second);
  cut(&source, longest);
  EXPECT(source.length <= longest);
  check_reading(&source);
  block *made = result_by_heart(&source, source.text), *copy = copy_block(made);
  free(made);
  EXPECT(strcmp(copy->result.source, source.text) == 0);
  EXPECT(copy->result.translations[0].length == source.length);
  free(copy);
  forget(&source);
  free(text);
  return 0;
}
