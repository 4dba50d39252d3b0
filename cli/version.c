/* `midden version`: the version of the library that the command was built with. */
#include "cli.h"
#include "midden/midden.h"

int version_main(int argc, char **argv) {
  (void)argc;
  (void)argv;
  unsigned version = midden_version();
  printf("midden %u.%u.%u\n", version >> 16, version >> 8 & 0xff, version & 0xff);
  return 0;
}
