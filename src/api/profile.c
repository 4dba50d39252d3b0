/* The heap profile as the program sees it, and as the options have it.
 *
 * By the options a profile begins when the library has started, with no lock held: the unwinder, which is loaded then, may
 * allocate. */
#include "api/profile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "alloc/sample.h"
#include "api/start.h"
#include "base/check.h"
#include "gc/profile.h"
#include "observe/profile_file.h"

enum { DISTANCE_DEFAULT = 512 << 10, PATH_BYTES = 1024 };

/* ---- the calls ---- */

int midden_profile_start(size_t distance_bytes) {
  struct mutator *self = start_self();
  if (distance_bytes > SAMPLE_DISTANCE_MAX) return -EINVAL;
  return profile_start(self, distance_bytes != 0 ? distance_bytes : DISTANCE_DEFAULT);
}

int midden_profile_stop(void) { return profile_stop(start_self()); }

size_t midden_profile_visit(midden_profile_visit_fn *visit, void *argument) {
  return profile_visit(start_self(), visit, argument);
}

uint64_t midden_profile_lost(void) { return profile_lost(start_self()); }

int midden_profile_write(const char *path) {
  struct mutator *self = start_self();
  return path != NULL ? profile_file_write(self, path) : -EINVAL;
}

/* ---- by the options ---- */

/* Constant after start. */
static struct {
  size_t distance;
  char path[PATH_BYTES]; /* absolute; "": none */
  uint32_t process;      /* that was started with it */
} wanted;

/* Nothing where there is no profile: it could not begin, which was said, or the process was forked off before it had. */
static void write_at_exit(void) {
  char path[PATH_BYTES + 16];
  if (profile_distance(start_self()) == 0) return;
  bool is_child = os_process_id() != wanted.process;
  snprintf(path, sizeof path, is_child ? "%s.%u" : "%s", wanted.path, os_process_id());
  int error = midden_profile_write(path);
  if (error != 0) warn("the heap profile %s cannot be written: %s", path, strerror(-error));
}

void profile_set_options(const struct midden_options *options) {
  wanted.distance = options->profile_sample_bytes;
  wanted.process = os_process_id();
  if (options->profile_file == NULL) return;
  if (wanted.distance == 0) wanted.distance = DISTANCE_DEFAULT;
  int error = os_absolute_path(options->profile_file, wanted.path, sizeof wanted.path);
  if (error == 0) error = os_at_exit(write_at_exit);
  if (error != 0) warn("the heap profile %s cannot be written: %s", options->profile_file, strerror(-error));
}

void profile_start_by_options(void) {
  if (wanted.distance == 0) return;
  int error = midden_profile_start(wanted.distance);
  if (error != 0) warn("the heap profile cannot begin: %s", strerror(-error));
}
