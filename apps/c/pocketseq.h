/*
 * Translates short text with a model that Pocketseq has exported, on LiteRT.
 *
 *     #include "english_pronunciation_model.h"
 *
 *     pocketseq_error error;
 *     pocketseq_model *model = pocketseq_open_file(
 *         &english_pronunciation_model, "model-int8.tflite", &error);
 *     pocketseq_result *result = pocketseq_translate(model, "phone", &error);
 *     puts(result ? result->translations[0].text : error.message);  // F OW1 N
 *     pocketseq_free(result);
 *     pocketseq_close(model);
 *
 * Texts are UTF-8. They are read in NFC, and what is not UTF-8 in them as U+FFFD; as C
 * strings they end before their first U+0000. One that is too long for the model is cut
 * at the last whitespace that fits, or within its first word.
 *
 * Threads: one call at a time on a model, from any thread; use a lock, or a model for
 * each thread. Different models do not know of one another. Results belong to the
 * caller, and outlive the model.
 */
#ifndef POCKETSEQ_H
#define POCKETSEQ_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One way to call a model. Lengths are in code points. */
typedef struct {
  const char *name;  /* such as "translate" or "translate_beam_256" */
  size_t source_length;
  size_t target_length;
  size_t hypotheses;  /* how many translations a call gives at most */
} pocketseq_signature;

/* The file of a model. An export writes one, into a header of its own. */
typedef struct {
  const char *file;  /* its name */
  size_t bytes;
  const char *sha256;  /* hex digits, in lower case */
  size_t num_signatures;
  const pocketseq_signature *signatures;
} pocketseq_description;

/* One answer. */
typedef struct {
  const char *text;
  size_t length;  /* of the text, in code points */
  /* The mean log-probability of its tokens, at most 0; 0 from a dictionary. */
  float score;
  /* A row for each code point of the text, and in it a column for each code point of
     the source: the share of the row's character that came from the column's. */
  const float *alignment;
} pocketseq_translation;

/* What a call gives. */
typedef struct {
  const char *source;  /* what was read of the given text */
  size_t source_length;  /* in code points */
  size_t num_translations;  /* 1 or more, best first */
  const pocketseq_translation *translations;
} pocketseq_result;

/* An answer that an app knows by itself. */
typedef struct {
  const char *text;
  const char *answer;
} pocketseq_entry;

/* Why a call failed, in one line. */
typedef struct {
  char message[256];
} pocketseq_error;

typedef struct pocketseq_model pocketseq_model;

/*
 * Opens a model from the bytes of its file, which are copied.
 *
 * Returns NULL, and says why in `error` unless that is NULL, where the bytes are not
 * those described (the runtime then sees none of them), or the runtime cannot run them.
 */
pocketseq_model *pocketseq_open(const pocketseq_description *description,
                                const void *bytes, size_t size, pocketseq_error *error);

/* Opens a model from a file, which is read into memory: a file that is mapped and
   then cut off ends the process. Returns NULL as pocketseq_open does. */
pocketseq_model *pocketseq_open_file(const pocketseq_description *description,
                                     const char *path, pocketseq_error *error);

/* Closes a model; NULL is none. */
void pocketseq_close(pocketseq_model *model);

/*
 * Gives a model answers that come before its own, in the place of those it was given
 * before. They are copied; of equal texts the last one counts.
 *
 * Returns false where there is no memory for them.
 */
bool pocketseq_set_dictionary(pocketseq_model *model, const pocketseq_entry *entries,
                              size_t num_entries, pocketseq_error *error);

/* Whether pocketseq_best gives more than one answer. */
bool pocketseq_has_beam(const pocketseq_model *model);

/*
 * Returns the answer to a text, the only one in the result, which the caller frees.
 *
 * Returns NULL where there is no memory, or the runtime reports a failure; and where
 * `model` is NULL, with the error as it was: why there is none.
 */
pocketseq_result *pocketseq_translate(pocketseq_model *model, const char *text,
                                      pocketseq_error *error);

/* Returns the best answers to a text, by the search with a beam; NULL also where the
   file was exported without a beam. */
pocketseq_result *pocketseq_best(pocketseq_model *model, const char *text,
                                 pocketseq_error *error);

/* Frees a result; NULL is none. */
void pocketseq_free(pocketseq_result *result);

#ifdef __cplusplus
}
#endif

#endif
