/* Which libgc.so.1 a program will load.
 *
 * Nobody but the loader knows: the library may be needed by a library of a library, and paths inside the program may come
 * before LD_LIBRARY_PATH.  So the loader that the program names is asked for its list (`--list`, what ldd(1) does); the
 * program itself is not started. */
#ifndef CLI_LINKAGE_H
#define CLI_LINKAGE_H

#include <limits.h>

enum linkage {
  LINKAGE_DROPIN, /* midden's */
  LINKAGE_OTHER,  /* another one, whose path is given */
  LINKAGE_NONE,   /* none, as far as it is linked; it may still load one by itself */
  LINKAGE_UNKNOWN /* could not be told; the reason is given */
};

struct linkage_answer {
  enum linkage linkage;
  char path[PATH_MAX]; /* OTHER: the library */
  const char *reason;  /* UNKNOWN: a clause about the program; NULL where there is no such program */
};

/* Asks with the environment as it is, LD_LIBRARY_PATH included.  `program` is looked up in PATH as execvp does, and
 * `dropin_folder` is the folder of midden's library. */
struct linkage_answer linkage_of(const char *program, const char *dropin_folder);

#endif
