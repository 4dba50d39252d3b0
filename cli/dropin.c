#include "dropin.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* From the folder of installed programs to that of the drop-in.  Relative, so that a whole installation can be moved. */
#ifndef MIDDEN_DROPIN_FROM_BIN
#define MIDDEN_DROPIN_FROM_BIN "../lib/midden"
#endif

/* Where /proc is not there, as in a bare chroot, by the name that this command was started by. */
static bool own_path(char path[PATH_MAX]) {
  ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
  const char *name = (const char *)getauxval(AT_EXECFN);
  if (length <= 0) return name != NULL && realpath(name, path) != NULL;
  path[length] = '\0';
  return true;
}

static bool own_folder(char folder[PATH_MAX]) {
  if (!own_path(folder)) return false;
  char *slash = strrchr(folder, '/');
  if (slash == NULL) return false;
  *slash = '\0';
  return true;
}

/* Whether `base`/`relative` holds the library; its real path goes to `folder`. */
static bool try_folder(const char *base, const char *relative, char *folder, size_t capacity) {
  char path[PATH_MAX], real[PATH_MAX];
  int length = snprintf(path, sizeof path, "%s/%s/" DROPIN_NAME, base, relative);
  if (length < 0 || (size_t)length >= sizeof path || access(path, R_OK) != 0) return false;
  *strrchr(path, '/') = '\0';
  if (realpath(path, real) == NULL || strlen(real) >= capacity) return false;
  strcpy(folder, real);
  return true;
}

bool dropin_find(char *folder, size_t capacity) {
  char own[PATH_MAX];
  if (!own_folder(own)) return false;
  return try_folder(own, ".", folder, capacity) || try_folder(own, MIDDEN_DROPIN_FROM_BIN, folder, capacity);
}
