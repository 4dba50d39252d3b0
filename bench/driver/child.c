#include "driver/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/engines.h"

/* Exit statuses: the shells' and the loader's for what cannot be started, and the worker's own. */
enum { EXIT_NOT_STARTED = 127, EXIT_NOT_APPLICABLE = 3, ARGUMENTS_MAX = 16 };

/* In the child.  The alarm outlives exec: a worker that hangs is ended by the kernel. */
_Noreturn static void become_worker(const struct child *child, int output) {
  const char *argv[ARGUMENTS_MAX + 3] = {child->engine->program};
  int count = 1;
  for (; count <= ARGUMENTS_MAX && child->arguments[count - 1] != NULL; count++)
    argv[count] = child->arguments[count - 1];
  argv[count] = child->engine->mode;
  if (child->engine->library_dir != NULL) {
    setenv("LD_LIBRARY_PATH", child->engine->library_dir, 1);
  } else if (child->engine->uses_libgc) {
    unsetenv("LD_LIBRARY_PATH");
  }
  if (child->engine->dropin_mode != NULL) {
    setenv("MIDDEN_MODE", child->engine->dropin_mode, 1);
  } else if (child->engine->is_dropin) {
    unsetenv("MIDDEN_MODE");
  }
  dup2(output, STDOUT_FILENO);
  alarm(child->timeout_s);
  execv(child->engine->program, (char **)argv);
  _exit(EXIT_NOT_STARTED);
}

/* Everything that the child prints, as a text; what does not fit is read and dropped, so that the child never blocks. */
static void read_output(int input, char *text, size_t text_bytes) {
  size_t length = 0;
  char overflow[256];
  for (;;) {
    bool fits = length + 1 < text_bytes;
    ssize_t got = fits ? read(input, text + length, text_bytes - 1 - length) : read(input, overflow, sizeof overflow);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    if (fits) length += (size_t)got;
  }
  text[length] = '\0';
}

static void print_command(const struct child *child) {
  fprintf(stderr, "bench: %s:", child->engine->name);
  for (char **argument = child->arguments; *argument != NULL; argument++) fprintf(stderr, " %s", *argument);
}

static enum child_end judge_status(const struct child *child, int status) {
  if (WIFEXITED(status)) {
    if (WEXITSTATUS(status) == 0) return CHILD_DONE;
    if (WEXITSTATUS(status) == EXIT_NOT_STARTED) return CHILD_NOT_STARTED;
    if (WEXITSTATUS(status) == EXIT_NOT_APPLICABLE) return CHILD_NOT_APPLICABLE;
  }
  print_command(child);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
    fprintf(stderr, ": ended after %u seconds\n", child->timeout_s);
  } else if (WIFSIGNALED(status)) {
    fprintf(stderr, ": died of signal %d, %s\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
  } else {
    fprintf(stderr, ": failed with status %d\n", WEXITSTATUS(status));
  }
  return CHILD_FAILED;
}

static double seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

/* The kernel counts the peak in KiB. */
static int add_usage(struct record *record, const struct rusage *usage) {
  int error = record_add(record, "process_cpu_s", seconds(usage->ru_utime) + seconds(usage->ru_stime));
  if (error == 0) error = record_add(record, "peak_rss_mib", (double)usage->ru_maxrss / 1024.0);
  return error;
}

enum child_end child_run(struct child *child) {
  int ends[2];
  if (pipe(ends) != 0) {
    perror("bench: pipe");
    return CHILD_FAILED;
  }
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    close(ends[0]);
    become_worker(child, ends[1]);
  }
  close(ends[1]);
  if (pid < 0) {
    perror("bench: fork");
    close(ends[0]);
    return CHILD_FAILED;
  }
  char line[8192];
  read_output(ends[0], line, sizeof line);
  close(ends[0]);
  int status;
  struct rusage usage;
  while (wait4(pid, &status, 0, &usage) < 0) {
    if (errno == EINTR) continue;
    perror("bench: wait4");
    return CHILD_FAILED;
  }
  enum child_end end = judge_status(child, status);
  if (end != CHILD_DONE) return end;
  if (record_parse(&child->record, line) == 0 && add_usage(&child->record, &usage) == 0) return CHILD_DONE;
  print_command(child);
  fprintf(stderr, ": no result in what it printed: %s\n", line);
  return CHILD_FAILED;
}
