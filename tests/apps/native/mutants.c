/* Opens damaged copies of a file, from memory and from the disk.
 *
 * The arguments: the model's file, the path to write copies to, and how many copies.
 * Each must be refused by the same kind of line; the file itself must open.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include MODEL_HEADER

static uint64_t state = 1;

/* A number below a bound; xorshift64. */
static size_t draw(size_t bound) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (size_t)(state % bound);
}

/* Damages a copy of the file, and returns its new size. */
static size_t damage(unsigned char *copy, const unsigned char *whole, size_t size) {
  memcpy(copy, whole, size);
  switch (draw(6)) {
    case 0: return draw(size);                        /* cut off */
    case 1: copy[draw(size)] ^= (unsigned char)(1 << draw(8)); return size;
    case 2: /* many bits */
      for (int i = 0; i < 100; i++) copy[draw(size)] ^= (unsigned char)(1 << draw(8));
      return size;
    case 3: memset(copy, (int)draw(256), size); return size; /* foreign */
    case 4: copy[size] = 0; return size + 1;          /* longer */
    default: { /* a piece of it elsewhere; the pieces differ in their first byte */
      size_t from = draw(size - 64), to = draw(size - 64);
      memmove(copy + to, whole + from, 64);
      copy[to] = (unsigned char)(whole[to] + 1);
      return size;
    }
  }
}

static int is_refused(const char *path, const unsigned char *bytes, size_t size,
                      int from_disk) {
  pocketseq_error error = {""};
  pocketseq_model *model;
  if (from_disk) {
    FILE *file = fopen(path, "wb");
    fwrite(bytes, 1, size, file);
    fclose(file);
    model = pocketseq_open_file(&MODEL, path, &error);
  } else {
    model = pocketseq_open(&MODEL, bytes, size, &error);
  }
  pocketseq_close(model);
  return !model && strstr(error.message, "damaged, or of another export") &&
         !strchr(error.message, '\n');
}

int main(int num_arguments, char **arguments) {
  if (num_arguments != 4) return 2;
  size_t size = MODEL.bytes;
  unsigned char *whole = malloc(size), *copy = malloc(size + 1);
  FILE *file = fopen(arguments[1], "rb");
  if (!file || fread(whole, 1, size, file) != size) return 2;
  fclose(file);
  int count = atoi(arguments[3]), refused = is_refused(arguments[2], copy, 0, 0) +
                                            is_refused(arguments[2], copy, 0, 1);
  for (int i = 0; i < count; i++) {
    size_t damaged = damage(copy, whole, size);
    refused += is_refused(arguments[2], copy, damaged, i % 2);
  }
  pocketseq_model *model = pocketseq_open(&MODEL, whole, size, NULL);
  printf("%d of %d refused, the whole file %s\n", refused, count + 2,
         model ? "opened" : "refused");
  pocketseq_close(model);
  free(whole);
  free(copy);
  return refused == count + 2 && model ? 0 : 1;
}
