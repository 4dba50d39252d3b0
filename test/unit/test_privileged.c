/* A program that runs with other privileges than who started it takes no option from the environment: those that name a file
 * would have it written with these privileges.
 *
 * The test runs a copy of itself that is another user's and setuid; where it is not root, or the file system takes no such copy,
 * it is skipped. */
#include "support/heap_test.h"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "api/options.h"

enum { OTHER_USER = 65534, OPTIONS_READ = 1, OPTIONS_NOT_READ = 0 };

static int privileged_main(void) {
  struct midden_options options;
  if (getauxval(AT_SECURE) == 0) return TEST_SKIPPED;
  if (options_resolve(&options, NULL) != 0) return OPTIONS_READ;
  bool any = options.profile_file != NULL || options.trace_file != NULL || options.percent == 33;
  return any ? OPTIONS_READ : OPTIONS_NOT_READ;
}

static bool make_copy(const char *path) {
  struct stat status;
  int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
  REQUIRE(from >= 0 && to >= 0 && fstat(from, &status) == 0, "%s: %s", path, strerror(errno));
  off_t left = status.st_size;
  while (left > 0) {
    ssize_t sent = sendfile(to, from, NULL, (size_t)left);
    REQUIRE(sent > 0, "%s: %s", path, strerror(errno));
    left -= sent;
  }
  bool is_other = fchown(to, OTHER_USER, (gid_t)-1) == 0 && fchmod(to, 04755) == 0; /* chown takes the bit away */
  close(from);
  close(to);
  return is_other;
}

static int run_copy(void *path) {
  setenv("MIDDEN_PROFILE_FILE", "profile", 1);
  setenv("MIDDEN_TRACE", "file:trace", 1);
  setenv("MIDDEN_PERCENT", "33", 1);
  execl(path, path, "privileged", (char *)NULL);
  return TEST_SKIPPED;
}

int main(int argc, char **argv) {
  char path[64];
  /* Not by exit: sanitizers do not hear there that leaks are not to be looked for. */
  if (argc > 1 && strcmp(argv[1], "privileged") == 0) _exit(privileged_main());
  test_start("test_privileged");
  snprintf(path, sizeof path, "./test_privileged.%d.copy", (int)getpid());
  struct test_outcome outcome = {.status = 0};
  bool is_made = geteuid() == 0 && make_copy(path);
  if (is_made) outcome = test_child(run_copy, path, 60);
  unlink(path);
  if (!is_made) return TEST_SKIPPED;
  REQUIRE(WIFEXITED(outcome.status), "status 0x%x: %s", (unsigned)outcome.status, outcome.message);
  REQUIRE(WEXITSTATUS(outcome.status) != OPTIONS_READ, "options were read: %s", outcome.message);
  return WEXITSTATUS(outcome.status);
}
