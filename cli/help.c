/* `midden help`: the list of commands, or one command's usage. */
#include "cli.h"

int help_main(int argc, char **argv) {
  if (argc < 2) {
    commands_list(stdout);
    return 0;
  }
  const struct command *command = command_find(argv[1]);
  if (command == NULL) {
    complain("help", "there is no command \"%s\"", argv[1]);
    return CLI_FAILED;
  }
  command_describe(command, stdout);
  return 0;
}
