/* What of the wrapper no answer shows: hashes of any length, and which signature is
 * called. Prints the SHA-256 of the first 0, 1, 2 ... 200 of the bytes 0, 1, 2 ...
 */
#include "../../../apps/c/pocketseq.c"

int main(void) {
  unsigned char bytes[200];
  char hex[65];
  for (int i = 0; i < 200; i++) bytes[i] = (unsigned char)i;
  for (size_t length = 0; length <= 200; length++) {
    sha256_hex(bytes, length, hex);
    puts(hex);
  }
  runner runners[] = {
      {.name = "translate", .source_length = 64},
      {.name = "translate_beam", .source_length = 64, .has_beam = true},
      {.name = "translate_16", .source_length = 16},
      {.name = "translate_256", .source_length = 256},
  };
  pocketseq_model model = {.num_runners = 4, .runners = runners};
  const struct {
    size_t length;
    bool with_beam;
    runner *expected;
  } cases[] = {
      {0, false, &runners[2]},   {16, false, &runners[2]},  {17, false, &runners[0]},
      {65, false, &runners[3]},  {257, false, NULL},        {0, true, &runners[1]},
      {65, true, NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    if (choose(&model, cases[i].length, cases[i].with_beam) != cases[i].expected)
      return 1;
  return longest_source(&model) == 256 ? 0 : 1;
}
