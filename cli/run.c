/* `midden run`: runs a program that is linked to the Boehm collector on midden.
 *
 * All that it does is to set variables of the environment: LD_LIBRARY_PATH, so that the loader finds midden's libgc.so.1
 * first, and one MIDDEN_ variable for each option.  Then it becomes the program, whose process, exit status and signals
 * are its own.  Values are not looked at here: the library reads them, and says what it does not understand. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "dropin.h"
#include "linkage.h"
#include "option_table.h"

enum { COLUMN = 26, WIDTH = 79 };

/* ---- help ---- */

/* Prints words from COLUMN on, in lines of WIDTH; the cursor stands at `column`. */
static void print_wrapped(FILE *to, int column, const char *text) {
  if (column > COLUMN - 2) fputc('\n', to), column = 0;
  fprintf(to, "%*s", COLUMN - column, "");
  column = COLUMN;
  while (*text != '\0') {
    int length = (int)strcspn(text, " ");
    if (column > COLUMN && column + 1 + length > WIDTH) {
      fprintf(to, "\n%*s", COLUMN, "");
      column = COLUMN;
    }
    column += fprintf(to, "%s%.*s", column > COLUMN ? " " : "", length, text);
    text += length;
    text += strspn(text, " ");
  }
  fputc('\n', to);
}

static void describe_row(FILE *to, const struct option_row *row) {
  char name[OPTION_NAME_BYTES], text[512];
  option_name(row, name);
  const char *form = option_is_switch(row) ? "  --%s[=%s]" : "  --%s=%s";
  int column = fprintf(to, form, name, option_placeholder(row));
  snprintf(text, sizeof text, "%s (%s)", row->help, row->standard);
  print_wrapped(to, column, text);
}

void run_describe(FILE *to) {
  fprintf(to,
          "\nThe program is one that is linked to libgc.so.1; it is not changed.  Each\n"
          "option sets the environment variable of the same name: --percent=50 is\n"
          "MIDDEN_PERCENT=50.  The default stands in parentheses; a SIZE may end in K, M,\n"
          "G or T.\n\n");
  for (size_t i = 0; i < option_row_count; i++) describe_row(to, &option_rows[i]);
  fprintf(to,
          "\n  -q, --quiet             say nothing where the program seems not to use\n"
          "                          libgc.so.1\n"
          "  -h, --help              print this\n");
}

/* ---- options ---- */

enum { FIRST_ROW = 256, ROWS_MAX = 64 };

/* The table as getopt_long wants it; names are kept in `names`. */
static void fill_getopt(struct option *to, char names[][OPTION_NAME_BYTES]) {
  for (size_t i = 0; i < option_row_count; i++) {
    option_name(&option_rows[i], names[i]);
    *to++ = (struct option){.name = names[i],
                            .has_arg = option_is_switch(&option_rows[i]) ? optional_argument : required_argument,
                            .val = FIRST_ROW + (int)i};
  }
  *to++ = (struct option){.name = "quiet", .val = 'q'};
  *to++ = (struct option){.name = "help", .val = 'h'};
  *to = (struct option){0};
}

struct request {
  bool quiet, help;
  char **program; /* with its arguments */
};

static bool parse(int argc, char **argv, struct request *request) {
  char names[ROWS_MAX][OPTION_NAME_BYTES];
  struct option options[ROWS_MAX + 3];
  _Static_assert(sizeof names / sizeof names[0] == ROWS_MAX, "a name for each row");
  if (option_row_count > ROWS_MAX) return false;
  fill_getopt(options, names);
  int found;
  /* "+": what follows the program's name is the program's. */
  while ((found = getopt_long(argc, argv, "+qh", options, NULL)) != -1) {
    if (found == '?') return false;
    if (found == 'q') request->quiet = true;
    if (found == 'h') request->help = true;
    if (found < FIRST_ROW) continue;
    if (setenv(option_rows[found - FIRST_ROW].variable, optarg != NULL ? optarg : "1", 1) != 0) return false;
  }
  request->program = argv + optind;
  return true;
}

/* ---- running ---- */

static bool prepend_library_path(const char *folder) {
  const char *before = getenv("LD_LIBRARY_PATH");
  if (before == NULL || *before == '\0') return setenv("LD_LIBRARY_PATH", folder, 1) == 0;
  size_t capacity = strlen(folder) + strlen(before) + 2;
  char *path = malloc(capacity);
  if (path == NULL) return false;
  snprintf(path, capacity, "%s:%s", folder, before);
  bool done = setenv("LD_LIBRARY_PATH", path, 1) == 0;
  free(path);
  return done;
}

/* Says so where the program will not use midden, or nobody can tell. */
static void warn_if_in_vain(const char *program, const char *folder) {
  struct linkage_answer answer = linkage_of(program, folder);
  switch (answer.linkage) {
    case LINKAGE_DROPIN:
      return;
    case LINKAGE_OTHER:
      complain("run", "%s loads %s, not midden: a path inside the program, or LD_PRELOAD, comes before LD_LIBRARY_PATH",
               program, answer.path);
      return;
    case LINKAGE_NONE:
      complain("run", "%s is not linked to " DROPIN_NAME ": unless it loads it by itself, it runs without midden",
               program);
      return;
    case LINKAGE_UNKNOWN:
      if (answer.reason == NULL) return; /* to run it will say why */
      complain("run", "cannot tell whether %s uses " DROPIN_NAME ": %s", program, answer.reason);
      return;
  }
}

static int run_program(char **program) {
  execvp(program[0], program);
  int error = errno;
  complain("run", "%s: %s", program[0], strerror(error));
  return error == ENOENT ? CLI_NOT_FOUND : CLI_CANNOT_RUN;
}

int run_main(int argc, char **argv) {
  struct request request = {0};
  char folder[PATH_MAX];
  static char name[] = "midden run"; /* what getopt_long puts before its messages */
  argv[0] = name;
  if (!parse(argc, argv, &request)) return CLI_FAILED;
  if (request.help) {
    command_describe(command_find("run"), stdout);
    return 0;
  }
  if (request.program[0] == NULL) {
    complain("run", "which program? (see `midden help run`)");
    return CLI_FAILED;
  }
  if (!dropin_find(folder, sizeof folder)) {
    complain("run", "there is no " DROPIN_NAME " beside this command, nor where it is installed");
    return CLI_FAILED;
  }
  if (strpbrk(folder, ":;") != NULL) {
    complain("run", "the loader cannot be told of a folder with ':' or ';' in its name: %s", folder);
    return CLI_FAILED;
  }
  if (!prepend_library_path(folder)) {
    complain("run", "no memory");
    return CLI_FAILED;
  }
  if (!request.quiet) warn_if_in_vain(request.program[0], folder);
  return run_program(request.program);
}
