/* Stands in for utf8proc. NFC here knows one composition: "e", U+0301 becomes U+00E9. */
#include "utf8proc.h"

#include <stdlib.h>
#include <string.h>

utf8proc_ssize_t utf8proc_iterate(const utf8proc_uint8_t *str, utf8proc_ssize_t strlen,
                                  utf8proc_int32_t *codepoint_ref) {
  int more = *str >= 0xF0 ? 3 : *str >= 0xE0 ? 2 : *str >= 0xC0 ? 1 : 0;
  utf8proc_int32_t code = more ? *str & (0x3F >> more) : *str;
  *codepoint_ref = -1;
  if (strlen != -1 || (*str >= 0x80 && *str < 0xC2) || *str > 0xF4) return -1;
  for (int i = 1; i <= more; i++) {
    if ((str[i] & 0xC0) != 0x80) return -1;
    code = code << 6 | (str[i] & 0x3F);
  }
  *codepoint_ref = code;
  return more + 1;
}

utf8proc_ssize_t utf8proc_encode_char(utf8proc_int32_t code, utf8proc_uint8_t *dst) {
  int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  for (int i = more; i > 0; i--, code >>= 6) dst[i] = 0x80 | (code & 0x3F);
  dst[0] = more ? (0xF0 << (3 - more) & 0xFF) | code : code;
  return more + 1;
}

utf8proc_uint8_t *utf8proc_NFC(const utf8proc_uint8_t *str) {
  utf8proc_uint8_t *nfc = malloc(strlen((const char *)str) + 1), *to = nfc;
  utf8proc_int32_t code;
  while (*str) {
    utf8proc_ssize_t length = utf8proc_iterate(str, -1, &code);
    if (length < 0) return free(nfc), NULL;
    if (strncmp((const char *)str, "e\xCC\x81", 3) == 0) {
      *to++ = 0xC3, *to++ = 0xA9;
      length = 3;
    } else {
      memcpy(to, str, length), to += length;
    }
    str += length;
  }
  *to = 0;
  return nfc;
}
