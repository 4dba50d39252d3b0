/* Bad frees, and numbers and addresses that the library never gave out, stop the process with a message, which the program's abort
 * function hears.  (The stock library may corrupt its heap.) */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define GC_NO_THREAD_REDIRECTS
#include "gc_check.h"

#include "gc/gc_gcj.h"
#include "gc/gc_inline.h"
#include "gc/gc_mark.h"

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
static void link_moved_off(void) {
  static void *words[2];
  GC_move_disappearing_link(&words[0], (void **)((char *)words + 1));
}
static void unknown_kind(void) {
  void *volatile result = GC_malloc_kind(16, 47);
  (void)result;
}
static void base_of_another_thread(void) {
  struct GC_stack_base base;
  char *thread = GC_get_my_stackbottom(&base);
  GC_set_stackbottom(thread + 1, &base);
}

/* Those of mark procedures: the first few are reserved for this, the others come from GC_new_proc. */
static void index_below(void) { GC_init_gcj_malloc(-1, NULL); }
static void index_to_come(void) { GC_init_gcj_malloc((int)GC_new_proc(NULL) + 1, NULL); }
static void index_of_bitmaps(void) { GC_init_gcj_malloc(GC_MAX_MARK_PROCS - 1, (void *)index_below); }
static void index_beyond(void) { GC_init_gcj_malloc(GC_MAX_MARK_PROCS, NULL); }

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
  check_stops(link_moved_off, "not aligned");
  check_stops(unknown_kind, "never made");
  check_stops(base_of_another_thread, "another thread");
  check_stops(index_below, "index");
  check_stops(index_to_come, "index");
  check_stops(index_of_bitmaps, "index");
  check_stops(index_beyond, "index");
  return 0;
}
