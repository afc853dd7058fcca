#include "pocketseq.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

/* How many answers a model remembers. */
#ifndef POCKETSEQ_REMEMBERED
#define POCKETSEQ_REMEMBERED 256
#endif

/* Hypotheses that do not exist have a score below this. */
#define NO_SCORE -1e6f

#define REPLACEMENT 0xFFFD

/* ---- LiteRT 2.2 and 2.3 -----------------------------------------------------------
 * libLiteRt.so comes without headers. These are the parts of litert/c/ that are used
 * here (litert_environment.h, litert_model.h, litert_options.h, litert_opaque_options.h,
 * litert_compiled_model.h, litert_tensor_buffer.h and what they include).
 */

typedef int LiteRtStatus; /* 0: it has worked */
typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtOpaqueOptionsT *LiteRtOpaqueOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;
typedef struct LiteRtTensorBufferRequirementsT *LiteRtTensorBufferRequirements;

enum { ACCELERATOR_CPU = 1 };
enum { ANY_INT = 2 };
enum { AUTO_REGISTER_ACCELERATORS = 24, MIN_LOGGER_SEVERITY = 25 };
enum { SEVERITY_ERROR = 3 };
enum { ELEMENT_FLOAT32 = 1, ELEMENT_INT32 = 2 };
enum { LOCK_READ = 0, LOCK_WRITE = 1 };

typedef struct {
  int tag;
  struct {
    int type;
    union {
      int64_t int_value;
      double real_value;
      const void *pointer_value;
    } of;
  } value;
} LiteRtEnvOption;

typedef struct {
  int element_type;
  struct {
    unsigned int rank : 7;
    bool has_strides : 1;
    int32_t dimensions[8];
    uint32_t strides[8];
  } layout;
} LiteRtRankedTensorType;

_Static_assert(sizeof(LiteRtEnvOption) == 24, "as the runtime has it");
_Static_assert(sizeof(LiteRtRankedTensorType) == 72, "as the runtime has it");

LiteRtStatus LiteRtCreateEnvironment(int num_options, const LiteRtEnvOption *options,
                                     LiteRtEnvironment *environment);
void LiteRtDestroyEnvironment(LiteRtEnvironment environment);
LiteRtStatus LiteRtCreateModelFromBuffer(LiteRtEnvironment environment,
                                         const void *bytes, size_t size,
                                         LiteRtModel *model);
void LiteRtDestroyModel(LiteRtModel model);
LiteRtStatus LiteRtGetNumModelSignatures(LiteRtModel model, size_t *count);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel model, size_t index,
                                     LiteRtSignature *signature);
LiteRtStatus LiteRtGetSignatureKey(LiteRtSignature signature, const char **key);
LiteRtStatus LiteRtGetNumSignatureInputs(LiteRtSignature signature, size_t *count);
LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature signature, size_t *count);
LiteRtStatus LiteRtGetSignatureOutputName(LiteRtSignature signature, size_t index,
                                          const char **name);
LiteRtStatus LiteRtGetSignatureInputTensorByIndex(LiteRtSignature signature,
                                                  size_t index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature signature,
                                                   size_t index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor tensor,
                                       LiteRtRankedTensorType *type);
LiteRtStatus LiteRtCreateOptions(LiteRtOptions *options);
void LiteRtDestroyOptions(LiteRtOptions options);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions options, int set);
LiteRtStatus LiteRtCreateOpaqueOptions(const char *identifier, void *payload,
                                       void (*destroy)(void *payload),
                                       LiteRtOpaqueOptions *options);
void LiteRtDestroyOpaqueOptions(LiteRtOpaqueOptions options);
LiteRtStatus LiteRtAddOpaqueOptions(LiteRtOptions options, LiteRtOpaqueOptions added);
LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment environment, LiteRtModel model,
                                       LiteRtOptions options,
                                       LiteRtCompiledModel *compiled);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel compiled);
LiteRtStatus LiteRtGetCompiledModelInputBufferRequirements(
    LiteRtCompiledModel compiled, size_t signature, size_t index,
    LiteRtTensorBufferRequirements *requirements);
LiteRtStatus LiteRtGetCompiledModelOutputBufferRequirements(
    LiteRtCompiledModel compiled, size_t signature, size_t index,
    LiteRtTensorBufferRequirements *requirements);
LiteRtStatus LiteRtCreateManagedTensorBufferFromRequirements(
    LiteRtEnvironment environment, const LiteRtRankedTensorType *type,
    LiteRtTensorBufferRequirements requirements, LiteRtTensorBuffer *buffer);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer buffer);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer buffer, void **address, int mode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer buffer);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel compiled, size_t signature,
                                    size_t num_inputs, LiteRtTensorBuffer *inputs,
                                    size_t num_outputs, LiteRtTensorBuffer *outputs);
LiteRtStatus LiteRtCreateModelFromFd(void);

/* Runtimes before 2.2 open models by other arguments, and would crash: they lack this
   function, and so are refused when the program is linked or started. */
extern LiteRtStatus (*const pocketseq_needs_litert_2_2)(void);
LiteRtStatus (*const pocketseq_needs_litert_2_2)(void) = LiteRtCreateModelFromFd;

/* ---- Errors ----------------------------------------------------------------------- */

/* Says why in `error`, and returns NULL. */
static void *fail(pocketseq_error *error, const char *format, ...) {
  if (error) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
  }
  return NULL;
}

static void *no_memory(pocketseq_error *error) { return fail(error, "no memory"); }

/* ---- SHA-256, FIPS 180-4 ---------------------------------------------------------- */

static const uint32_t ROUND_CONSTANTS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
    0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
    0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
    0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
    0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
    0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
    0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2};

static uint32_t rotate(uint32_t word, int bits) {
  return word >> bits | word << (32 - bits);
}

static void sha256_block(uint32_t state[8], const unsigned char block[64]) {
  uint32_t w[64], v[8];
  for (int i = 0; i < 16; i++)
    w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
           (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
  for (int i = 16; i < 64; i++) {
    uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
           (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
  }
  memcpy(v, state, sizeof v);
  for (int i = 0; i < 64; i++) {
    uint32_t a = v[0], e = v[4];
    uint32_t first = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
                     ((e & v[5]) ^ (~e & v[6])) + ROUND_CONSTANTS[i] + w[i];
    uint32_t second = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +
                      ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
    memmove(v + 1, v, 7 * sizeof *v);
    v[4] += first;
    v[0] = first + second;
  }
  for (int i = 0; i < 8; i++) state[i] += v[i];
}

static void sha256_hex(const unsigned char *bytes, size_t size, char hex[65]) {
  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  unsigned char last[128] = {0};
  size_t whole = size - size % 64, rest = size - whole;
  size_t padded = rest < 56 ? 64 : 128;
  uint64_t bits = (uint64_t)size * 8;
  for (size_t i = 0; i < whole; i += 64) sha256_block(state, bytes + i);
  memcpy(last, bytes + whole, rest);
  last[rest] = 0x80;
  for (size_t i = 0; i < 8; i++) last[padded - 1 - i] = (unsigned char)(bits >> 8 * i);
  for (size_t i = 0; i < padded; i += 64) sha256_block(state, last + i);
  for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08lx", (unsigned long)state[i]);
}

/* ---- Text ------------------------------------------------------------------------- */

/* The code points of a text, and the same in UTF-8. */
typedef struct {
  char *text;
  int32_t *codes;
  size_t length;
} reading;

/* Takes a code point from a string that has not ended, and returns how many bytes it
   took. What is not UTF-8 is U+FFFD, for as many bytes as could still begin a
   character (the Unicode Standard, 3.9, "maximal subpart"). */
static size_t decode(const char *string, int32_t *code) {
  const unsigned char *at = (const unsigned char *)string;
  unsigned char lowest = 0x80, highest = 0xBF;
  size_t more = at[0] < 0x80 ? 0 : at[0] < 0xE0 ? 1 : at[0] < 0xF0 ? 2 : 3;
  int32_t value = more ? at[0] & (0x3F >> more) : at[0];
  *code = REPLACEMENT;
  if (at[0] >= 0x80 && (at[0] < 0xC2 || at[0] > 0xF4)) return 1;
  /* No longer form than needed, no half of a surrogate pair, nothing above U+10FFFF. */
  if (at[0] == 0xE0) lowest = 0xA0;
  if (at[0] == 0xED) highest = 0x9F;
  if (at[0] == 0xF0) lowest = 0x90;
  if (at[0] == 0xF4) highest = 0x8F;
  for (size_t i = 1; i <= more; i++) {
    if (at[i] < lowest || at[i] > highest) return i;
    value = value << 6 | (at[i] & 0x3F);
    lowest = 0x80, highest = 0xBF;
  }
  *code = value;
  return more + 1;
}

/* Writes a code point, at most 4 bytes, and returns where the next one goes. */
static char *encode(char *to, int32_t code) {
  if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
    code = REPLACEMENT;
  int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  for (int i = more; i > 0; i--, code >>= 6) to[i] = (char)(0x80 | (code & 0x3F));
  to[0] = (char)(more ? (0xF0 << (3 - more) & 0xFF) | code : code);
  return to + more + 1;
}

static char *encode_all(char *to, const int32_t *codes, size_t length) {
  for (size_t i = 0; i < length; i++) to = encode(to, codes[i]);
  *to = 0;
  return to + 1;
}

/* Returns a text as UTF-8, whatever it is; NULL: no memory. The caller frees it. */
static char *clean(const char *text) {
  size_t size = strlen(text);
  int32_t code;
  if (size > SIZE_MAX / 8) return NULL;
  char *cleaned = malloc(3 * size + 1), *to = cleaned; /* U+FFFD has 3 bytes */
  if (!cleaned) return NULL;
  for (; *text; text += decode(text, &code)) {
    decode(text, &code);
    to = encode(to, code);
  }
  *to = 0;
  return cleaned;
}

static void forget(reading *source) {
  free(source->text);
  free(source->codes);
}

/* Reads a text in NFC; false: no memory. */
static bool read_text(const char *text, reading *source) {
  char *cleaned = clean(text);
  *source = (reading){0};
  if (!cleaned) return false;
  source->text = (char *)utf8proc_NFC((const utf8proc_uint8_t *)cleaned);
  free(cleaned);
  if (!source->text) return false;
  source->codes = malloc((strlen(source->text) + 1) * sizeof *source->codes);
  if (!source->codes) return forget(source), false;
  for (const char *at = source->text; *at;)
    at += decode(at, &source->codes[source->length++]);
  return true;
}

/* Whether a code point has the Unicode property White_Space. */
static bool is_whitespace(int32_t code) {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 ||
         code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
         code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

/* Cuts a text that is too long at the last whitespace that leaves a whole word. */
static void cut(reading *source, size_t longest) {
  if (source->length <= longest) return;
  /* The whitespace itself need not fit. */
  size_t end = longest + 1;
  while (end > 0 && !is_whitespace(source->codes[end - 1])) end--;
  while (end > 0 && is_whitespace(source->codes[end - 1])) end--;
  source->length = end > 0 ? end : longest;
  encode_all(source->text, source->codes, source->length);
}

/* ---- Results ---------------------------------------------------------------------- */

/* A result and all that it points to, in one piece of memory. */
typedef struct {
  pocketseq_result result; /* the first, so that the address of one is the other's */
  size_t size;
} block;

/* What the model has written for one text. */
typedef struct {
  size_t hypotheses, rows, columns;
  const int32_t *codes;   /* [hypotheses, rows] */
  const float *scores;    /* [hypotheses] */
  const float *alignment; /* [hypotheses, rows, columns] */
} outputs;

static size_t text_length(const int32_t *codes, size_t most) {
  size_t length = 0;
  while (length < most && codes[length]) length++;
  return length;
}

static size_t num_found(const outputs *found) {
  size_t count = 0;
  while (count < found->hypotheses && found->scores[count] >= NO_SCORE) count++;
  return count;
}

/* Makes a result without content, but with room for it. */
static block *new_block(const reading *source, size_t num_translations,
                        size_t num_codes, float **numbers, char **letters) {
  size_t size = sizeof(block) + num_translations * sizeof(pocketseq_translation) +
                num_codes * source->length * sizeof(float) +
                4 * (num_codes + source->length) + num_translations + 1;
  block *made = calloc(1, size);
  if (!made) return NULL;
  pocketseq_translation *translations = (pocketseq_translation *)(made + 1);
  *numbers = (float *)(translations + num_translations);
  *letters = (char *)(*numbers + num_codes * source->length);
  made->size = size;
  made->result = (pocketseq_result){*letters, source->length, num_translations,
                                    translations};
  *letters = encode_all(*letters, source->codes, source->length);
  return made;
}

/* Takes what the model has written; NULL: no memory. */
static block *result_of(const reading *source, const outputs *found) {
  size_t count = num_found(found), num_codes = 0;
  float *numbers;
  char *letters;
  for (size_t i = 0; i < count; i++)
    num_codes += text_length(found->codes + i * found->rows, found->rows);
  block *made = new_block(source, count, num_codes, &numbers, &letters);
  pocketseq_translation *to = made ? (pocketseq_translation *)(made + 1) : NULL;
  for (size_t i = 0; made && i < count; i++, to++) {
    const int32_t *codes = found->codes + i * found->rows;
    const float *row = found->alignment + i * found->rows * found->columns;
    size_t length = text_length(codes, found->rows);
    *to = (pocketseq_translation){letters, length, found->scores[i], numbers};
    letters = encode_all(letters, codes, length);
    for (size_t j = 0; j < length; j++, row += found->columns) {
      memcpy(numbers, row, source->length * sizeof *row);
      numbers += source->length;
    }
  }
  return made;
}

/* Takes an answer from a dictionary, which came evenly from all of the source. */
static block *result_by_heart(const reading *source, const char *answer) {
  float *numbers;
  char *letters;
  int32_t code;
  size_t length = 0;
  for (const char *at = answer; *at; at += decode(at, &code)) length++;
  block *made = new_block(source, 1, length, &numbers, &letters);
  if (!made) return NULL;
  pocketseq_translation *to = (pocketseq_translation *)(made + 1);
  *to = (pocketseq_translation){letters, length, 0, numbers};
  memcpy(letters, answer, strlen(answer) + 1);
  for (size_t i = 0; i < length * source->length; i++)
    numbers[i] = 1 / (float)source->length;
  return made;
}

/* The same place in a copy of a piece of memory. */
#define MOVED(pointer, from, to) \
  ((const void *)((const char *)(to) + ((const char *)(pointer) - (const char *)(from))))

static block *copy_block(const block *from) {
  block *to = malloc(from->size);
  if (!to) return NULL;
  memcpy(to, from, from->size);
  pocketseq_translation *translations = (pocketseq_translation *)(to + 1);
  to->result.translations = translations;
  to->result.source = MOVED(from->result.source, from, to);
  for (size_t i = 0; i < to->result.num_translations; i++) {
    translations[i].text = MOVED(translations[i].text, from, to);
    translations[i].alignment = MOVED(translations[i].alignment, from, to);
  }
  return to;
}

void pocketseq_free(pocketseq_result *result) { free(result); }

/* ---- The model -------------------------------------------------------------------- */

enum { TEXT, SCORE, ALIGNMENT, NUM_OUTPUTS };
static const char *const OUTPUT_NAMES[NUM_OUTPUTS] = {"text", "score", "alignment"};

/* A signature, and the buffers of its calls. */
typedef struct {
  const char *name;
  size_t source_length, target_length, hypotheses;
  bool has_beam;
  size_t index;                /* of the signature in the file */
  size_t places[NUM_OUTPUTS];  /* of outputs in the signature */
  LiteRtTensorBuffer input;
  LiteRtTensorBuffer outputs[NUM_OUTPUTS]; /* in the file's order */
} runner;

struct pocketseq_model {
  void *bytes; /* the runtime reads them as long as there is a model */
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtCompiledModel compiled;
  size_t num_runners;
  runner *runners;
  size_t num_entries;
  struct entry {
    char *text, *answer;
    size_t position;
  } *entries; /* by text */
  struct {
    block *made;
    bool with_beam;
  } remembered[POCKETSEQ_REMEMBERED]; /* by the hash of what was asked */
};

static bool begins_with(const char *text, const char *beginning) {
  return strncmp(text, beginning, strlen(beginning)) == 0;
}

/* Returns the signature in the file that has a name; NULL: there is none. */
static LiteRtSignature find_signature(LiteRtModel model, const char *name,
                                      size_t *index) {
  size_t count = 0;
  LiteRtSignature found;
  const char *key;
  if (LiteRtGetNumModelSignatures(model, &count)) return NULL;
  for (*index = 0; *index < count; ++*index)
    if (!LiteRtGetModelSignature(model, *index, &found) &&
        !LiteRtGetSignatureKey(found, &key) && strcmp(key, name) == 0)
      return found;
  return NULL;
}

static bool is_of_type(LiteRtTensor tensor, int element_type, unsigned rank,
                       const size_t *shape, LiteRtRankedTensorType *type) {
  if (LiteRtGetRankedTensorType(tensor, type)) return false;
  if (type->element_type != element_type || type->layout.rank != rank) return false;
  for (unsigned i = 0; i < rank; i++)
    if (type->layout.dimensions[i] < 0 ||
        (size_t)type->layout.dimensions[i] != shape[i])
      return false;
  return true;
}

static bool make_input(const pocketseq_model *model, LiteRtSignature signature,
                       runner *to) {
  size_t count = 0, shape[2] = {1, to->source_length};
  LiteRtTensor tensor;
  LiteRtRankedTensorType type;
  LiteRtTensorBufferRequirements needs;
  return !LiteRtGetNumSignatureInputs(signature, &count) && count == 1 &&
         !LiteRtGetSignatureInputTensorByIndex(signature, 0, &tensor) &&
         is_of_type(tensor, ELEMENT_INT32, 2, shape, &type) &&
         !LiteRtGetCompiledModelInputBufferRequirements(model->compiled, to->index, 0,
                                                        &needs) &&
         !LiteRtCreateManagedTensorBufferFromRequirements(model->environment, &type,
                                                          needs, &to->input);
}

static bool make_output(const pocketseq_model *model, LiteRtSignature signature,
                        size_t place, runner *to) {
  size_t shape[3] = {to->hypotheses, to->target_length, to->source_length};
  static const unsigned RANKS[NUM_OUTPUTS] = {2, 1, 3};
  const char *name;
  int output = 0;
  LiteRtTensor tensor;
  LiteRtRankedTensorType type;
  LiteRtTensorBufferRequirements needs;
  if (LiteRtGetSignatureOutputName(signature, place, &name)) return false;
  while (output < NUM_OUTPUTS && strcmp(name, OUTPUT_NAMES[output])) output++;
  if (output == NUM_OUTPUTS) return false;
  to->places[output] = place;
  return !LiteRtGetSignatureOutputTensorByIndex(signature, place, &tensor) &&
         is_of_type(tensor, output == TEXT ? ELEMENT_INT32 : ELEMENT_FLOAT32,
                    RANKS[output], shape, &type) &&
         !LiteRtGetCompiledModelOutputBufferRequirements(model->compiled, to->index,
                                                         place, &needs) &&
         !LiteRtCreateManagedTensorBufferFromRequirements(
             model->environment, &type, needs, &to->outputs[place]);
}

/* Prepares the calls of a signature; false: the file does not have it. */
static bool make_runner(const pocketseq_model *model,
                        const pocketseq_signature *described, runner *to) {
  size_t count = 0;
  *to = (runner){.name = described->name,
                 .source_length = described->source_length,
                 .target_length = described->target_length,
                 .hypotheses = described->hypotheses,
                 .has_beam = begins_with(described->name, "translate_beam")};
  LiteRtSignature signature = find_signature(model->model, to->name, &to->index);
  if (!signature || !make_input(model, signature, to)) return false;
  if (LiteRtGetNumSignatureOutputs(signature, &count) || count != NUM_OUTPUTS)
    return false;
  for (size_t i = 0; i < NUM_OUTPUTS; i++)
    if (!make_output(model, signature, i, to)) return false;
  return true;
}

/* One thread, XNNPACK's kernels: the runtime reads TOML. Returns false where the runtime
   refuses, or there is no memory. */
static bool set_processor_options(LiteRtOptions options) {
  static const char SETTINGS[] = "kernel_mode = \"delegate\"\nnum_threads = 1\n";
  LiteRtOpaqueOptions settings;
  char *copy = malloc(sizeof SETTINGS);
  if (!copy) return false;
  memcpy(copy, SETTINGS, sizeof SETTINGS);
  if (LiteRtCreateOpaqueOptions("xnnpack", copy, free, &settings))
    return free(copy), false;
  if (LiteRtAddOpaqueOptions(options, settings))
    return LiteRtDestroyOpaqueOptions(settings), false;
  return !LiteRtSetOptionsHardwareAccelerators(options, ACCELERATOR_CPU);
}

/* Returns NULL, or what the runtime could not do. */
static const char *compile(pocketseq_model *model, size_t size) {
  const LiteRtEnvOption settings[] = {
      {AUTO_REGISTER_ACCELERATORS, {ANY_INT, {ACCELERATOR_CPU}}},
      {MIN_LOGGER_SEVERITY, {ANY_INT, {SEVERITY_ERROR}}},
  };
  LiteRtOptions options = NULL;
  if (LiteRtCreateEnvironment(2, settings, &model->environment)) return "start";
  if (LiteRtCreateModelFromBuffer(model->environment, model->bytes, size, &model->model))
    return "read the model";
  if (LiteRtCreateOptions(&options)) return "start";
  bool compiled = set_processor_options(options) &&
                  !LiteRtCreateCompiledModel(model->environment, model->model, options,
                                             &model->compiled);
  LiteRtDestroyOptions(options);
  return compiled ? NULL : "compile the model";
}

/* Opens a model whose bytes are known to be right. A runner that is half made counts, so
   that what there is of it is freed. */
static pocketseq_model *start(pocketseq_model *model,
                              const pocketseq_description *description,
                              pocketseq_error *error) {
  const char *problem = compile(model, description->bytes);
  model->runners = calloc(description->num_signatures, sizeof *model->runners);
  if (!problem && !model->runners) problem = "get memory";
  for (size_t i = 0; !problem && i < description->num_signatures; i++) {
    model->num_runners++;
    if (!make_runner(model, &description->signatures[i], &model->runners[i]))
      problem = "find the described signatures";
  }
  if (!problem) return model;
  fail(error, "%s: the runtime cannot %s, expected LiteRT 2.2 or 2.3",
       description->file, problem);
  pocketseq_close(model);
  return NULL;
}

/* Takes bytes over, which were allocated: they are the model's, or freed. */
static pocketseq_model *open_taken(const pocketseq_description *description,
                                   const char *name, unsigned char *bytes, size_t size,
                                   pocketseq_error *error) {
  char hex[65];
  pocketseq_model *model;
  if (size != description->bytes)
    return free(bytes), fail(error,
                             "%s: damaged, or of another export: it does not have the "
                             "expected %zu bytes",
                             name, description->bytes);
  sha256_hex(bytes, size, hex);
  if (strcmp(hex, description->sha256))
    return free(bytes), fail(error,
                             "%s: damaged, or of another export: it does not have the "
                             "expected SHA-256",
                             name);
  model = calloc(1, sizeof *model);
  if (!model) return free(bytes), no_memory(error);
  model->bytes = bytes;
  return start(model, description, error);
}

/* Memory as a runtime likes it for weights; never without a byte. */
static unsigned char *aligned_bytes(size_t size) {
  return size > SIZE_MAX - 64 ? NULL : aligned_alloc(64, size / 64 * 64 + 64);
}

pocketseq_model *pocketseq_open(const pocketseq_description *description,
                                const void *bytes, size_t size,
                                pocketseq_error *error) {
  unsigned char *copy = aligned_bytes(size);
  if (!copy) return no_memory(error);
  if (size) memcpy(copy, bytes, size);
  return open_taken(description, description->file, copy, size, error);
}

pocketseq_model *pocketseq_open_file(const pocketseq_description *description,
                                     const char *path, pocketseq_error *error) {
  unsigned char *bytes = aligned_bytes(description->bytes);
  FILE *file = fopen(path, "rb");
  if (!file || !bytes) {
    if (file) fclose(file);
    const char *reason = bytes ? strerror(errno) : "no memory";
    return free(bytes), fail(error, "%s: cannot be read: %s", path, reason);
  }
  /* One byte more than expected tells that there are more. */
  size_t size = fread(bytes, 1, description->bytes + 1, file);
  bool failed = ferror(file);
  int reason = errno;
  fclose(file);
  if (failed)
    return free(bytes), fail(error, "%s: cannot be read: %s", path, strerror(reason));
  return open_taken(description, path, bytes, size, error);
}

static void forget_entries(struct entry *entries, size_t count) {
  for (size_t i = 0; i < count; i++) {
    free(entries[i].text);
    free(entries[i].answer);
  }
  free(entries);
}

void pocketseq_close(pocketseq_model *model) {
  if (!model) return;
  for (size_t i = 0; i < model->num_runners; i++) {
    if (model->runners[i].input) LiteRtDestroyTensorBuffer(model->runners[i].input);
    for (int j = 0; j < NUM_OUTPUTS; j++)
      if (model->runners[i].outputs[j])
        LiteRtDestroyTensorBuffer(model->runners[i].outputs[j]);
  }
  for (size_t i = 0; i < POCKETSEQ_REMEMBERED; i++) free(model->remembered[i].made);
  forget_entries(model->entries, model->num_entries);
  if (model->compiled) LiteRtDestroyCompiledModel(model->compiled);
  if (model->model) LiteRtDestroyModel(model->model);
  if (model->environment) LiteRtDestroyEnvironment(model->environment);
  free(model->runners);
  free(model->bytes);
  free(model);
}

/* ---- Dictionary ------------------------------------------------------------------- */

static int by_text(const void *left, const void *right) {
  const struct entry *a = left, *b = right;
  int order = strcmp(a->text, b->text);
  return order ? order : (a->position > b->position) - (a->position < b->position);
}

bool pocketseq_set_dictionary(pocketseq_model *model, const pocketseq_entry *entries,
                              size_t num_entries, pocketseq_error *error) {
  struct entry *made = calloc(num_entries + 1, sizeof *made);
  for (size_t i = 0; made && i < num_entries; i++) {
    reading source = {0};
    made[i].position = i;
    made[i].answer = clean(entries[i].answer);
    if (made[i].answer && read_text(entries[i].text, &source)) {
      made[i].text = source.text;
      free(source.codes);
      continue;
    }
    forget_entries(made, i + 1);
    made = NULL;
  }
  if (!made) return no_memory(error), false;
  qsort(made, num_entries, sizeof *made, by_text);
  forget_entries(model->entries, model->num_entries);
  model->entries = made;
  model->num_entries = num_entries;
  return true;
}

/* Returns the answer to a text; NULL: there is none. */
static const char *look_up(const pocketseq_model *model, const char *text) {
  size_t low = 0, high = model->num_entries;
  while (low < high) { /* the last of equal texts */
    size_t middle = low + (high - low) / 2;
    if (strcmp(model->entries[middle].text, text) <= 0)
      low = middle + 1;
    else
      high = middle;
  }
  if (!low || strcmp(model->entries[low - 1].text, text)) return NULL;
  return model->entries[low - 1].answer;
}

/* ---- Calls ------------------------------------------------------------------------ */

/* Returns the shortest signature that holds a text; NULL: there is none. */
static runner *choose(const pocketseq_model *model, size_t length, bool with_beam) {
  runner *chosen = NULL;
  for (size_t i = 0; i < model->num_runners; i++) {
    runner *one = &model->runners[i];
    if (one->has_beam != with_beam || one->source_length < length) continue;
    if (!chosen || one->source_length < chosen->source_length) chosen = one;
  }
  return chosen;
}

static size_t longest_source(const pocketseq_model *model) {
  size_t longest = 0;
  for (size_t i = 0; i < model->num_runners; i++)
    if (model->runners[i].source_length > longest)
      longest = model->runners[i].source_length;
  return longest;
}

/* Writes all of the input: what an earlier, longer text left would be read, too. */
static bool write_input(const runner *by, const reading *source) {
  void *row;
  if (LiteRtLockTensorBuffer(by->input, &row, LOCK_WRITE)) return false;
  memset(row, 0, by->source_length * sizeof *source->codes);
  memcpy(row, source->codes, source->length * sizeof *source->codes);
  return !LiteRtUnlockTensorBuffer(by->input);
}

static block *read_outputs(const runner *by, const reading *source) {
  const void *content[NUM_OUTPUTS];
  block *made = NULL;
  int locked = 0;
  for (; locked < NUM_OUTPUTS; locked++) {
    void *address;
    if (LiteRtLockTensorBuffer(by->outputs[by->places[locked]], &address, LOCK_READ))
      break;
    content[locked] = address;
  }
  if (locked == NUM_OUTPUTS) {
    outputs found = {by->hypotheses,  by->target_length, by->source_length,
                     content[TEXT],   content[SCORE],    content[ALIGNMENT]};
    made = result_of(source, &found);
  }
  while (locked-- > 0) LiteRtUnlockTensorBuffer(by->outputs[by->places[locked]]);
  return made;
}

static block *run(const pocketseq_model *model, const reading *source, bool with_beam,
                  pocketseq_error *error) {
  runner *by = choose(model, source->length, with_beam);
  if (!by || !write_input(by, source) ||
      LiteRtRunCompiledModel(model->compiled, by->index, 1, &by->input, NUM_OUTPUTS,
                             by->outputs))
    return fail(error, "the runtime has failed");
  block *made = read_outputs(by, source);
  if (!made) return no_memory(error);
  if (!made->result.num_translations)
    return free(made), fail(error, "the runtime has given no answer");
  return made;
}

/* Returns where the answer to a text is remembered, or will be: FNV-1a. */
static size_t slot(const char *text, bool with_beam) {
  uint32_t hash = 2166136261u ^ with_beam;
  for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 16777619u;
  return hash % POCKETSEQ_REMEMBERED;
}

/* Answers from memory, or by the model. */
static block *remember(pocketseq_model *model, const reading *source, bool with_beam,
                       pocketseq_error *error) {
  size_t at = slot(source->text, with_beam);
  block *made = model->remembered[at].made;
  if (!made || model->remembered[at].with_beam != with_beam ||
      strcmp(made->result.source, source->text)) {
    made = run(model, source, with_beam, error);
    if (!made) return NULL;
    free(model->remembered[at].made);
    model->remembered[at].made = made;
    model->remembered[at].with_beam = with_beam;
  }
  block *copy = copy_block(made);
  return copy ? copy : no_memory(error);
}

static pocketseq_result *ask(pocketseq_model *model, const char *text, bool with_beam,
                             pocketseq_error *error) {
  reading source;
  block *made;
  if (!model) return NULL;
  if (!read_text(text, &source)) return no_memory(error);
  const char *answer = look_up(model, source.text);
  if (answer) {
    made = result_by_heart(&source, answer);
    if (!made) no_memory(error);
  } else {
    cut(&source, longest_source(model));
    made = remember(model, &source, with_beam, error);
  }
  forget(&source);
  return made ? &made->result : NULL;
}

bool pocketseq_has_beam(const pocketseq_model *model) {
  return choose(model, 0, true) != NULL;
}

pocketseq_result *pocketseq_translate(pocketseq_model *model, const char *text,
                                      pocketseq_error *error) {
  return ask(model, text, false, error);
}

pocketseq_result *pocketseq_best(pocketseq_model *model, const char *text,
                                 pocketseq_error *error) {
  if (!model) return NULL;
  if (!pocketseq_has_beam(model))
    return fail(error, "the file has no beam, expected an export with --beam");
  return ask(model, text, true, error);
}
