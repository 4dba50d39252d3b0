/* The `midden` command: finds the subcommand and hands over. */
#include <stdarg.h>
#include <string.h>

#include "cli.h"

const struct command commands[] = {
    {"run", "[OPTIONS] [--] PROGRAM [ARGUMENTS]", "run a program on midden in place of the Boehm collector", run_main,
     run_describe},
    {"help", "[COMMAND]", "explain a command", help_main, NULL},
    {"version", "", "print the version", version_main, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

const struct command *command_find(const char *name) {
  for (const struct command *command = commands; command->name != NULL; command++) {
    if (strcmp(command->name, name) == 0) return command;
  }
  return NULL;
}

void command_describe(const struct command *command, FILE *to) {
  fprintf(to, "usage: midden %s%s%s\n\n", command->name, *command->arguments != '\0' ? " " : "", command->arguments);
  fprintf(to, "%c%s.\n", command->summary[0] - 'a' + 'A', command->summary + 1);
  if (command->describe != NULL) command->describe(to);
}

void commands_list(FILE *to) {
  fprintf(to, "usage: midden COMMAND [ARGUMENTS]\n\n");
  for (const struct command *command = commands; command->name != NULL; command++)
    fprintf(to, "  %-10s %s\n", command->name, command->summary);
  fprintf(to, "\n`midden help COMMAND` explains one of them.\n");
}

void complain(const char *command, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "midden %s: ", command);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
}

/* The names that habit makes people type. */
static const char *canonical(const char *name) {
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) return "help";
  if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) return "version";
  return name;
}

/* What was printed may have found no place: then that is no success. */
static int flush_output(int status) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return status;
  fprintf(stderr, "midden: standard output cannot be written\n");
  return CLI_FAILED;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    commands_list(stderr);
    return CLI_FAILED;
  }
  const struct command *command = command_find(canonical(argv[1]));
  if (command == NULL) {
    fprintf(stderr, "midden: there is no command \"%s\"\n", argv[1]);
    commands_list(stderr);
    return CLI_FAILED;
  }
  return flush_output(command->run(argc - 1, argv + 1));
}
