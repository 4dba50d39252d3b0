/* A thread that is cancelled while it is stopped, in a call that is a cancellation point: it ends when the world goes on.  It ended at
 * once, and gave back its cache while others marked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>
#include <unistd.h>

#include "support/heap_test.h"

enum { ATTEMPTS = 5, PAUSE_MS = 20 };

static sem_t waits;
static bool is_ending; /* atomic */

static void note_end(void *unused) {
  (void)unused;
  __atomic_store_n(&is_ending, true, __ATOMIC_RELEASE);
}

static void *wait_to_be_cancelled(void *unused) {
  REQUIRE(midden_alloc(64) != NULL, "out of memory"); /* of a window that it gives back */
  pthread_cleanup_push(note_end, NULL);
  sem_post(&waits);
  for (;;) pause();
  pthread_cleanup_pop(0);
  return unused;
}

static void rest(void) { nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL); }

static void a_stopped_thread_ends_when_the_world_goes_on(void **state) {
  (void)state;
  for (int i = 0; i < ATTEMPTS; i++) {
    pthread_t thread;
    void *result;
    is_ending = false;
    REQUIRE(pthread_create(&thread, NULL, wait_to_be_cancelled, NULL) == 0, "pthread_create");
    while (sem_wait(&waits) != 0) continue;
    rest();
    midden_world_stop();
    pthread_cancel(thread);
    rest();
    bool ended_early = __atomic_load_n(&is_ending, __ATOMIC_ACQUIRE);
    midden_world_resume();
    pthread_join(thread, &result);
    assert_false(ended_early);
    assert_true(is_ending);
    assert_ptr_equal(result, PTHREAD_CANCELED);
    midden_collect();
  }
}

int main(void) {
  test_start("unit/stop_cancelled");
  REQUIRE(midden_init(NULL) == 0, "midden_init");
  sem_init(&waits, 0, 0);
  alarm(60);
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_stopped_thread_ends_when_the_world_goes_on)};
  return test_run_group(tests);
}
