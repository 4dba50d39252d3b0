#include "driver/record.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Skips `expected` and the space around it. */
static bool skip(const char **at, char expected) {
  while (**at == ' ') (*at)++;
  if (**at != expected) return false;
  (*at)++;
  while (**at == ' ') (*at)++;
  return true;
}

/* A quoted text into `text`; false where it is none or does not fit. */
static bool parse_text(const char **at, char *text, size_t text_bytes) {
  if (!skip(at, '"')) return false;
  size_t length = 0;
  while (**at != '"' && **at != '\0') {
    if (**at == '\\') (*at)++;
    if (**at == '\0' || length + 1 >= text_bytes) return false;
    text[length++] = *(*at)++;
  }
  text[length] = '\0';
  return skip(at, '"');
}

static bool parse_number(const char **at, double *value) {
  char *end;
  *value = strtod(*at, &end);
  if (end == *at || !isfinite(*value)) return false;
  *at = end;
  return true;
}

static bool set_text(struct record *record, const char *name, const char *text) {
  char *field = strcmp(name, "engine") == 0 ? record->engine : strcmp(name, "library") == 0 ? record->library : NULL;
  if (field == NULL) return false;
  memcpy(field, text, strlen(text) + 1);
  return true;
}

static bool parse_member(const char **at, struct record *record) {
  char name[RECORD_NAME_BYTES];
  if (!parse_text(at, name, sizeof name) || !skip(at, ':')) return false;
  if (**at == '"') {
    char text[RECORD_TEXT_BYTES];
    return parse_text(at, text, sizeof text) && set_text(record, name, text);
  }
  double value;
  return parse_number(at, &value) && record_add(record, name, value) == 0;
}

int record_parse(struct record *record, const char *line) {
  *record = (struct record){0};
  const char *at = line;
  if (!skip(&at, '{')) return -EINVAL;
  do {
    if (!parse_member(&at, record)) return -EINVAL;
  } while (skip(&at, ','));
  return skip(&at, '}') && (*at == '\n' || *at == '\0') ? 0 : -EINVAL;
}

int record_add(struct record *record, const char *name, double value) {
  if (record->count == RECORD_FIGURES_MAX) return -ENOSPC;
  struct figure *figure = &record->figures[record->count++];
  snprintf(figure->name, sizeof figure->name, "%s", name);
  figure->value = value;
  return 0;
}

bool record_find(const struct record *record, const char *name, double *value) {
  for (int i = 0; i < record->count; i++) {
    if (strcmp(record->figures[i].name, name) == 0) {
      *value = record->figures[i].value;
      return true;
    }
  }
  return false;
}
