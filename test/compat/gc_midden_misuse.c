/* Bad frees stop the process with a message, which the program's abort function hears.  (The stock library may corrupt
 * its heap.) */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gc_check.h"

enum { HEARD = 42 };

static const char *expected;

static void on_abort(const char *message) {
  if (!message || !strstr(message, expected)) {
    fprintf(stderr, "the message does not say \"%s\": %s\n", expected, message ? message : "(none)");
    _exit(1);
  }
  _exit(HEARD);
}

typedef void misuse(void);

static void free_inside(void) { GC_free((char *)GC_malloc(100) + 16); }
static void free_in_large(void) { GC_free((char *)GC_malloc(100000) + 50000); }
static void free_foreign(void) { GC_free(malloc(100)); }
static void free_stack(void) {
  int local;
  int *volatile address = &local;
  GC_free(address);
}
static void free_wild(void) { GC_free((void *)0x10); }
static void free_twice(void) {
  void *object = GC_malloc(100);
  GC_free(object);
  GC_free(object);
}
static void realloc_inside(void) {
  void *volatile result = GC_realloc((char *)GC_malloc(100) + 16, 200);
  (void)result;
}
static void unaligned_link(void) {
  void *words[2], *object = GC_malloc(40);
  GC_general_register_disappearing_link((void **)((char *)words + 1), object);
}
static void link_outside(void) {
  static void *link;
  GC_register_disappearing_link(&link);
}

static void check_stops(misuse *function, const char *says) {
  pid_t child = fork();
  if (child == 0) {
    expected = says;
    GC_set_abort_func(on_abort);
    function();
    fprintf(stderr, "\"%s\": went unnoticed\n", says);
    _exit(2);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == HEARD);
}

int main(void) {
  GC_INIT();
  check_stops(free_inside, "inside an object");
  check_stops(free_in_large, "inside an object");
  check_stops(free_foreign, "outside the heap");
  check_stops(free_stack, "outside the heap");
  check_stops(free_wild, "outside the heap");
  check_stops(free_twice, "free");
  check_stops(realloc_inside, "inside an object");
  check_stops(unaligned_link, "not aligned");
  check_stops(link_outside, "lies in no object");
  return 0;
}
