/* A kernel whose pages have 64 KiB, as some of 64-bit ARM have: what is asked of it are whole pages of its own.  It would refuse
 * others, or take a range for longer than it was, and what lies behind with it.  Played on any kernel whose pages are smaller.
 *
 * All is done in a thread beside the first, whose stack ends where that kernel would not have it end. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "os/os.h"
#include "page/arena.h"
#include "support/heap_test.h"

enum { NODES = 1 << 13, FIBERS = 64, LEAST_STACK_BYTES = 1 };
#define PAGE_PLAYED_BYTES ((size_t)64 << 10)

/* ---- the kernel ---- */

static size_t released_bytes; /* atomic */

size_t __wrap_os_page_bytes(void);
size_t __wrap_os_page_bytes(void) { return PAGE_PLAYED_BYTES; }

static void check(const char *what, const void *start, size_t bytes) {
  REQUIRE(is_aligned((uintptr_t)start | bytes, PAGE_PLAYED_BYTES), "%s: %zu bytes at %p", what, bytes, start);
}

int __real_os_commit(void *start, size_t bytes);
int __wrap_os_commit(void *start, size_t bytes);
int __real_os_release(void *start, size_t bytes);
int __wrap_os_release(void *start, size_t bytes);
int __real_os_guard(void *start, size_t bytes);
int __wrap_os_guard(void *start, size_t bytes);
int __real_os_unguard(void *start, size_t bytes);
int __wrap_os_unguard(void *start, size_t bytes);

int __wrap_os_commit(void *start, size_t bytes) {
  check("commit", start, bytes);
  return __real_os_commit(start, bytes);
}

int __wrap_os_release(void *start, size_t bytes) {
  check("release", start, bytes);
  __atomic_fetch_add(&released_bytes, bytes, __ATOMIC_RELAXED);
  return __real_os_release(start, bytes);
}

int __wrap_os_guard(void *start, size_t bytes) {
  check("guard", start, bytes);
  return __real_os_guard(start, bytes);
}

int __wrap_os_unguard(void *start, size_t bytes) {
  check("unguard", start, bytes);
  return __real_os_unguard(start, bytes);
}

/* ---- the program ---- */

struct node {
  struct node *next;
  uintptr_t value;
  uintptr_t more[6];
};

static struct node *kept;

static void make_nodes(void) {
  for (uintptr_t i = 0; i < NODES; i++) {
    struct node *node = midden_alloc(sizeof *node);
    REQUIRE(node != NULL, "out of memory");
    node->value = i;
    if (i % 16 != 0) continue;
    node->next = kept;
    kept = node;
  }
}

static void check_nodes(void) {
  for (const struct node *node = kept; node != NULL; node = node->next) assert_int_equal(node->value % 16, 0);
}

static void *touch(void *argument) {
  char frame[4096];
  memset(frame, 1, sizeof frame);
  __asm__ volatile("" : : "r"(frame) : "memory");
  return midden_fiber_yield(argument);
}

static struct midden_fiber *fibers[FIBERS];

/* Memory of the heap between them and behind them. */
static void run_fibers(void) {
  for (int i = 0; i < FIBERS; i++) {
    fibers[i] = midden_fiber_new(touch, NULL, LEAST_STACK_BYTES);
    REQUIRE(fibers[i] != NULL, "midden_fiber_new");
    assert_int_equal(midden_fiber_resume(fibers[i], NULL, NULL), 0);
    make_nodes();
  }
  for (int i = 0; i < FIBERS; i++) assert_int_equal(midden_fiber_free(fibers[i]), 0);
}

static void whole_pages_are_asked_for(void **state) {
  (void)state;
  run_fibers();
  midden_collect();
  check_nodes();
  midden_release_memory();
  check_nodes();
  kept = NULL;
  midden_collect();
  midden_release_memory();
  assert_true(released_bytes > 0);
}

static int result;

static void *run(void *unused) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(whole_pages_are_asked_for),
  };
  REQUIRE(midden_init(&(struct midden_options){.size = sizeof(struct midden_options)}) == 0, "midden_init");
  result = cmocka_run_group_tests(tests, NULL, NULL);
  return unused;
}

int main(void) {
  test_start("unit/page_size");
  pthread_t thread;
  alarm(120);
  REQUIRE(pthread_create(&thread, NULL, run, NULL) == 0, "pthread_create");
  pthread_join(thread, NULL);
  return result;
}
