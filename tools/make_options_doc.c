/* Writes the list of options for people, from include/midden/options.h.
 *
 *   make_options_doc markdown                 prints docs/options.md
 *   make_options_doc man                      prints man/midden_options.7
 *   make_options_doc --check FORMAT FILE      fails if FILE is not what would be printed */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "option_table.h"

/* What a value may be, as a sentence without its full stop. */
static void print_values(FILE *to, const struct option_row *row) {
  switch (row->type) {
    case OPTION_SIZE:
      fputs("a number of bytes, or with K, M, G or T at its end of that power of 1024; off", to);
      return;
    case OPTION_COUNT:
    case OPTION_SWITCH:
      fprintf(to, "a number from %ld to %ld", row->low, row->high);
      return;
    case OPTION_PERCENT:
      fprintf(to, "a number from %ld to %ld; off", row->low, row->high);
      return;
    case OPTION_WORDS:
      fputs("words, separated by commas", to);
      return;
    case OPTION_PATH:
      fputs("the name of a file", to);
      return;
  }
}

static void print_markdown(FILE *to) {
  fputs(
      "# Options\n\n"
      "<!-- Written by tools/make_options_doc.c from include/midden/options.h; do not edit. -->\n\n"
      "Each option is a field of `struct midden_options` for `midden_init`, an environment variable, which wins over "
      "the\n"
      "field, and an option of `midden run`, which sets the variable. A value in the environment that is not "
      "understood is\n"
      "reported on standard error and ignored; a field out of range makes `midden_init` return `-EINVAL`. Words and\n"
      "suffixes may be of either case. An empty variable counts as one that is not set. A program that runs with "
      "other\n"
      "privileges than who started it (setuid, capabilities) reads no variable.\n",
      to);
  for (size_t i = 0; i < option_row_count; i++) {
    const struct option_row *row = &option_rows[i];
    char name[OPTION_NAME_BYTES];
    option_name(row, name);
    fprintf(to, "\n## `%s`\n\n", row->variable);
    fprintf(to, "%s.\n\n", row->help);
    fprintf(to, "- values: ");
    print_values(to, row);
    fprintf(to, "\n- default: %s\n- field: `%s`\n- command line: `--%s%s%s%s`\n", row->standard, row->field, name,
            option_is_switch(row) ? "[=" : "=", option_placeholder(row), option_is_switch(row) ? "]" : "");
  }
}

/* A text in which groff sees no requests and no escapes. */
static void print_roff(FILE *to, const char *text) {
  if (*text == '.' || *text == '\'') fputs("\\&", to);
  for (; *text != '\0'; text++) {
    if (*text == '\\') {
      fputs("\\e", to);
    } else if (*text == '-') {
      fputs("\\-", to);
    } else {
      fputc(*text, to);
    }
  }
}

static void print_man(FILE *to) {
  fputs(
      ".\\\" Written by tools/make_options_doc.c from include/midden/options.h; do not edit.\n"
      ".TH MIDDEN_OPTIONS 7 \"\" midden \"Garbage-collected page heap\"\n"
      ".SH NAME\nmidden_options \\- what can be set when midden starts\n"
      ".SH DESCRIPTION\n"
      "Each option is a field of\n.B struct midden_options\nfor\n.BR midden_init (3),\n"
      "an environment variable, which wins over the field, and an option of\n.BR \"midden run\" ,\n"
      "which sets the variable.\n.PP\n"
      "A value in the environment that is not understood is reported on standard error and ignored; a field out of\n"
      "range makes\n.BR midden_init (3)\nreturn\n.BR \\-EINVAL .\n"
      "Words and suffixes may be of either case.\nAn empty variable counts as one that is not set.\n"
      "A program that runs with other privileges than who started it (setuid, capabilities) reads no variable.\n",
      to);
  for (size_t i = 0; i < option_row_count; i++) {
    const struct option_row *row = &option_rows[i];
    fprintf(to, ".TP\n.B %s\n", row->variable);
    print_roff(to, row->help);
    fputs(".\n.br\nValues: ", to);
    print_values(to, row);
    fputs(".\n.br\nDefault: ", to);
    print_roff(to, row->standard);
    fprintf(to, ".\n.br\nField:\n.BR %s .\n", row->field);
  }
  fputs(".SH SEE ALSO\n.BR midden (1),\n.BR midden_init (3),\n.BR midden (7)\n", to);
}

static int print(const char *format, FILE *to) {
  if (strcmp(format, "markdown") == 0) {
    print_markdown(to);
  } else if (strcmp(format, "man") == 0) {
    print_man(to);
  } else {
    fprintf(stderr, "make_options_doc: the formats are markdown and man\n");
    return 2;
  }
  return 0;
}

static char *read_all(FILE *from, size_t *bytes) {
  char *text = NULL;
  FILE *to = open_memstream(&text, bytes);
  if (to == NULL) return NULL;
  int byte;
  while ((byte = fgetc(from)) != EOF) fputc(byte, to);
  return fclose(to) == 0 ? text : NULL;
}

static int check(const char *format, const char *path) {
  char *wanted = NULL;
  size_t wanted_bytes, found_bytes = 0;
  FILE *to = open_memstream(&wanted, &wanted_bytes);
  if (to == NULL || print(format, to) != 0 || fclose(to) != 0) return 2;
  FILE *from = fopen(path, "r");
  char *found = from != NULL ? read_all(from, &found_bytes) : NULL;
  if (from != NULL) fclose(from);
  int same = found != NULL && found_bytes == wanted_bytes && memcmp(found, wanted, wanted_bytes) == 0;
  if (!same) printf("%s is out of date; write it with: make_options_doc %s >%s\n", path, format, path);
  free(found);
  free(wanted);
  return !same;
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "--check") == 0) return check(argv[2], argv[3]);
  if (argc == 2) return print(argv[1], stdout);
  fprintf(stderr, "usage: make_options_doc markdown|man, or make_options_doc --check markdown|man FILE\n");
  return 2;
}
