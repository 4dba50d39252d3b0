/* What the files of the `midden` command share.
 *
 * Each subcommand is a file of its own with one entry in the table of main.c.  The command sees the library by its public
 * headers only. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stddef.h>
#include <stdio.h>

/* The status with which `midden` itself fails, as opposed to the program that it runs: as env(1) and timeout(1) do. */
enum { CLI_FAILED = 125, CLI_CANNOT_RUN = 126, CLI_NOT_FOUND = 127 };

struct command {
  const char *name;
  const char *arguments; /* as in its usage line */
  const char *summary;
  int (*run)(int argc, char **argv); /* argv[0] is the name; returns the exit status */
  void (*describe)(FILE *to);        /* what follows the usage line; NULL for nothing */
};

/* All subcommands; ends with one that has no name. */
extern const struct command commands[];

/* NULL where there is none of that name. */
const struct command *command_find(const char *name);

/* Prints how a command is used. */
void command_describe(const struct command *command, FILE *to);

/* Prints what `midden` alone prints: the list of commands. */
void commands_list(FILE *to);

int run_main(int argc, char **argv);
void run_describe(FILE *to);
int version_main(int argc, char **argv);
int help_main(int argc, char **argv);

/* Prints "midden COMMAND: " and a message to standard error. */
void complain(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
