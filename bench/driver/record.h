/* One run's figures, as the worker printed them: a flat JSON object of texts and numbers. */
#ifndef BENCH_DRIVER_RECORD_H
#define BENCH_DRIVER_RECORD_H

#include <stdbool.h>

enum { RECORD_FIGURES_MAX = 96, RECORD_NAME_BYTES = 32, RECORD_TEXT_BYTES = 256 };

struct figure {
  char name[RECORD_NAME_BYTES];
  double value;
};

struct record {
  char engine[RECORD_TEXT_BYTES];  /* the name that the engine gives itself */
  char library[RECORD_TEXT_BYTES]; /* the file that it was loaded from, or "static" */
  struct figure figures[RECORD_FIGURES_MAX];
  int count; /* of figures */
};

/* Reads a worker's line.  0, or -EINVAL where it is not what a worker prints. */
int record_parse(struct record *record, const char *line);

/* Adds a figure.  0, or -ENOSPC. */
int record_add(struct record *record, const char *name, double value);

/* Whether the record has a figure; if so, *value receives it. */
bool record_find(const struct record *record, const char *name, double *value);

#endif
