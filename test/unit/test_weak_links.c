/* Weak links that died in a collection, while their records are not put away yet, on a forced schedule: the program registers the same
 * word again, or frees what the link of a dead object led to.  And one that is to follow another target, for which there is no memory.
 *
 * The collecting thread is held in the event before it sweeps.
 *
 * Linked with --wrap=fixalloc_alloc. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/special.h"
#include "meta/fixalloc.h"
#include "support/heap_test.h"

enum { LINKS = 64, BYTES = 64 };

static const enum midden_weak_when before = MIDDEN_WEAK_BEFORE_FINALIZERS;

static sem_t here, go;
static bool waits;
static void **words;             /* from malloc: the links */
static void *targets[LINKS];     /* that live */
static void *freed_later[LINKS]; /* targets of links in objects that die */

static void await(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) continue; /* interrupted by a stop */
}

static void hold(enum midden_event event, void *unused) {
  (void)unused;
  if (event != MIDDEN_EVENT_SWEEP_START || !waits) return;
  waits = false;
  sem_post(&here);
  await(&go);
}

static void *collect(void *unused) {
  midden_collect();
  return unused;
}

/* A collection, in the midst of which `act` is called. */
static void collect_and(void (*act)(void)) {
  pthread_t thread;
  test_scrub_stack();
  waits = true;
  REQUIRE(pthread_create(&thread, NULL, collect, NULL) == 0, "pthread_create");
  await(&here);
  act();
  sem_post(&go);
  midden_blocking_enter();
  pthread_join(thread, NULL);
  midden_blocking_leave();
}

NOINLINE_TEST static void link_to_garbage(void) {
  for (size_t i = 0; i < LINKS; i++) {
    void *garbage = midden_alloc(BYTES);
    words[i] = (void *)1;
    assert_int_equal(midden_weak_link(&words[i], garbage, before), 0);
  }
}

/* Those whose targets are dead: a few may be kept by chance. */
static void link_again(void) {
  size_t cleared = 0;
  for (size_t i = 0; i < LINKS; i++) {
    bool is_cleared = words[i] == NULL;
    cleared += is_cleared;
    words[i] = (void *)1;
    assert_int_equal(midden_weak_link(&words[i], targets[i], before), is_cleared ? 0 : -EEXIST);
  }
  assert_in_range(cleared, LINKS / 2, LINKS);
}

/* Each word is registered once, and has a record of its own. */
static void unlink_all(void) {
  for (size_t i = 0; i < LINKS; i++) assert_int_equal(midden_weak_unlink(&words[i], before), 0);
  for (size_t i = 0; i < LINKS; i++) assert_int_equal(midden_weak_unlink(&words[i], before), -ENOENT);
}

static void a_word_may_be_registered_again(void **state) {
  (void)state;
  link_to_garbage();
  collect_and(link_again);
  unlink_all();
  midden_verify();
}

static void link_all(void) {
  for (size_t i = 0; i < LINKS; i++) assert_int_equal(midden_weak_link(&words[i], targets[i], before), 0);
}

static void do_nothing(void) {}

NOINLINE_TEST static void link_from_garbage(bool to_garbage) {
  for (size_t i = 0; i < LINKS; i++) {
    void **holder = midden_alloc_data(BYTES), *target = midden_alloc(BYTES);
    if (!to_garbage) freed_later[i] = target;
    assert_int_equal(midden_weak_link(&holder[1], target, before), 0);
  }
}

static void one_that_dies_at_both_ends_is_put_away_once(void **state) {
  (void)state;
  link_from_garbage(true);
  collect_and(do_nothing);
  link_all();
  unlink_all();
  midden_verify();
}

static void free_targets(void) {
  for (size_t i = 0; i < LINKS; i++) midden_free(freed_later[i]);
  memset(freed_later, 0, sizeof freed_later);
}

static void a_target_is_freed_whose_link_is_dead(void **state) {
  (void)state;
  link_from_garbage(false);
  collect_and(free_targets);
  link_all();
  unlink_all();
  midden_verify();
}

/* ---- without memory ---- */

enum { RECORD_BYTES_MOST = 64, LONE_BYTES = 3000 /* a size of which there is no other object */ };

static bool refuses_sets;

void *__real_fixalloc_alloc(struct fixalloc *allocator);
void *__wrap_fixalloc_alloc(struct fixalloc *allocator);
void *__wrap_fixalloc_alloc(struct fixalloc *allocator) {
  bool is_of_sets = allocator->purpose == PERSIST_SPECIAL && allocator->block_bytes > RECORD_BYTES_MOST;
  return refuses_sets && is_of_sets ? NULL : __real_fixalloc_alloc(allocator);
}

static void one_that_cannot_follow_another_target_stays(void **state) {
  (void)state;
  void *target = midden_alloc(BYTES), *other = midden_alloc(LONE_BYTES);
  words[0] = (void *)1;
  assert_int_equal(midden_weak_link(&words[0], target, before), 0);
  refuses_sets = true;
  assert_int_equal(midden_weak_link(&words[0], other, before), -ENOMEM);
  assert_int_equal(midden_weak_link(&words[1], other, before), -ENOMEM);
  refuses_sets = false;
  assert_int_equal(midden_weak_unlink(&words[1], before), -ENOENT);
  assert_int_equal(midden_weak_link(&words[1], other, before), 0);
  midden_free(target);
  assert_null(words[0]);
  assert_int_equal(midden_weak_unlink(&words[0], before), -ENOENT);
  midden_free(other);
  assert_null(words[1]);
  midden_verify();
}

int main(void) {
  struct midden_options options = {.size = sizeof options, .mode = MIDDEN_MODE_STW, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "no start");
  sem_init(&here, 0, 0);
  sem_init(&go, 0, 0);
  midden_set_event_callback(hold, NULL);
  words = calloc(LINKS, sizeof *words);
  for (size_t i = 0; i < LINKS; i++) targets[i] = midden_alloc(BYTES);
  alarm(20);
  const struct CMUnitTest tests[] = {
      test_scrubbed(a_word_may_be_registered_again),
      test_scrubbed(one_that_dies_at_both_ends_is_put_away_once),
      test_scrubbed(a_target_is_freed_whose_link_is_dead),
      test_scrubbed(one_that_cannot_follow_another_target_stays),
  };
  return test_run_group(tests);
}
