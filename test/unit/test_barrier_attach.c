/* Barrier mode and a thread that begins while the heap is marked, on a forced schedule: no handshake of this cycle has been done with it,
 * so it is scanned as it attaches.  What it allocates is marked from its first object on, which it fills without barrier: a marker
 * that met one of its free slots before would not come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "mutator/mutator.h"
#include "support/cycle_steps.h"

static bool is_marked; /* its first object */

static void *attach_and_allocate(void *unused) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  is_marked = midden_is_marked(midden_alloc(64));
  return unused;
}

static void what_a_new_thread_allocates_is_marked(void **state) {
  (void)state;
  pthread_t thread;
  cycle_begin(&cycle.scanned);
  REQUIRE(pthread_create(&thread, NULL, attach_and_allocate, NULL) == 0, "pthread_create");
  pthread_join(thread, NULL);
  cycle_go_on(&cycle.scanned);
  cycle_end();
  assert_true(is_marked);
}

/* One that was never attached is by its first store of which is told.  No handshake may find it outside of that store, though the store
 * began before there was a mutator: the collector would end the cycle, and be told of the old value then.  The page of the slot
 * shows when the store is under way. */

static void **guarded; /* a page */
static bool is_inside; /* at the moment of the load, or the store */

static void look_and_let_pass(int signal, siginfo_t *info, void *context) {
  const struct mutator *self = mutator_self_if_attached();
  (void)signal, (void)info, (void)context;
  is_inside = self != NULL && atomic_load_relaxed(&self->inside_store) != 0;
  mprotect(guarded, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE);
}

static void *store_at_once(void *unused) {
  midden_store(guarded, NULL);
  return unused;
}

static void attach_by_a_store(int protection) {
  pthread_t thread;
  is_inside = false;
  mprotect(guarded, (size_t)sysconf(_SC_PAGESIZE), protection);
  cycle_begin(&cycle.scanned);
  REQUIRE(pthread_create(&thread, NULL, store_at_once, NULL) == 0, "pthread_create");
  pthread_join(thread, NULL);
  cycle_go_on(&cycle.scanned);
  cycle_end();
  assert_true(is_inside);
}

static void the_store_by_which_a_thread_is_attached_is_whole(void **state) {
  (void)state;
  struct sigaction before, action = {.sa_sigaction = look_and_let_pass, .sa_flags = SA_SIGINFO};
  guarded = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(guarded != MAP_FAILED, "mmap");
  sigaction(SIGSEGV, &action, &before);
  attach_by_a_store(PROT_NONE); /* the load of the old value */
  attach_by_a_store(PROT_READ); /* the store */
  sigaction(SIGSEGV, &before, NULL);
}

int main(void) {
  cycle_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_a_new_thread_allocates_is_marked),
      cmocka_unit_test(the_store_by_which_a_thread_is_attached_is_whole),
  };
  return test_run_group(tests);
}
