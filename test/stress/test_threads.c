/* The collector among threads.
 *
 * Every scenario runs threads that build trees with checksums, hand them to each other through shared roots or hide
 * them where the scenario says (thread-local storage, an alternate signal stack, a library's data), and check them
 * later; somebody collects all the while.  A tree that was reclaimed too early is overwritten by the trees that others
 * build, and its checksum fails.
 *
 * MIDDEN_TEST_STEPS is the work per thread; MIDDEN_TEST_THREADS the number of threads. */
#define _GNU_SOURCE 1
#include "midden/barrier.h"
#include "support/heap_test.h"

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdatomic.h>

enum { SHARED_SLOTS = 32, THREADS_MAX = 64, HANG_SECONDS = 240 };

static size_t thread_count;
static size_t steps;

/* ---- trees with checksums ---- */

struct tree {
  struct tree *left, *right;
  uint64_t value;
  uint64_t sum; /* of the value and both subtrees; see tree_sum */
};

static const uint64_t tree_pointers[] = {3};
static const struct midden_type tree_type = {.name = "tree", .size = sizeof(struct tree), .pointers = tree_pointers};

static uint64_t tree_sum(const struct tree *tree) {
  uint64_t left = tree->left == NULL ? 1 : tree->left->sum;
  uint64_t right = tree->right == NULL ? 2 : tree->right->sum;
  return test_mix(tree->value + 3 * left + 5 * right);
}

NOINLINE_TEST static struct tree *tree_build(struct rng *rng, unsigned depth) {
  struct tree *tree = rng_one_in(rng, 2) ? midden_alloc_type(&tree_type) : midden_alloc(sizeof(*tree));
  REQUIRE(tree != NULL, "out of memory");
  REQUIRE(tree->left == NULL && tree->right == NULL && tree->value == 0 && tree->sum == 0, "memory is not zeroed");
  tree->value = rng_next(rng);
  if (depth != 0) {
    tree->left = tree_build(rng, depth - 1);
    tree->right = tree_build(rng, depth - 1);
  }
  tree->sum = tree_sum(tree);
  return tree;
}

static void tree_check(const struct tree *tree) {
  if (tree == NULL) return;
  REQUIRE(tree->sum == tree_sum(tree), "tree %p is damaged", (const void *)tree);
  tree_check(tree->left);
  tree_check(tree->right);
}

/* Only for a tree that nobody else knows. */
static void tree_free(struct tree *tree) {
  if (tree == NULL) return;
  tree_free(tree->left);
  tree_free(tree->right);
  midden_free(tree);
}

/* Takes memory that was given up too early, if there is any, and spoils it. */
NOINLINE_TEST static void spoil_free_memory(void) {
  for (int i = 0; i < 3000; i++) {
    uint64_t *words = i % 2 == 0 ? midden_alloc_type(&tree_type) : midden_alloc(sizeof(struct tree));
    REQUIRE(words != NULL, "out of memory");
    words[2] = words[3] = 0xbadbadbadbadbad;
  }
}

/* ---- shared slots ---- */

struct shared_slot {
  pthread_mutex_t mutex;
  struct tree *tree; /* under mutex */
};

static struct shared_slot shared_slots[SHARED_SLOTS];

static struct tree *slot_swap(size_t slot, struct tree *tree) {
  pthread_mutex_lock(&shared_slots[slot].mutex);
  struct tree *old = shared_slots[slot].tree;
  midden_store(&shared_slots[slot].tree, tree);
  pthread_mutex_unlock(&shared_slots[slot].mutex);
  return old;
}

static void shared_clear(void) {
  for (size_t i = 0; i < SHARED_SLOTS; i++) tree_check(slot_swap(i, NULL));
}

static void exchange_once(struct rng *rng) {
  struct tree *tree = tree_build(rng, (unsigned)rng_below(rng, 7));
  struct tree *old = slot_swap(rng_below(rng, SHARED_SLOTS), tree);
  tree_check(old);
  if (rng_one_in(rng, 4)) tree_free(old);
  if (rng_one_in(rng, 50)) REQUIRE(midden_alloc_data(1 + rng_size(rng, 200000)) != NULL, "out of memory");
  if (rng_one_in(rng, 400)) midden_collect();
}

/* ---- starting threads ---- */

struct worker {
  pthread_t thread;
  struct rng rng;
  void (*run)(struct worker *worker);
  size_t number;
  atomic_size_t progress;
};

static struct worker workers[THREADS_MAX];
static atomic_bool stop_workers;
static pthread_barrier_t barrier; /* of the workers, and the main thread where a scenario says so */

static void *worker_main(void *argument) {
  struct worker *worker = argument;
  worker->run(worker);
  return NULL;
}

static void workers_start(struct rng *rng, size_t count, void (*run)(struct worker *worker)) {
  stop_workers = false;
  for (size_t i = 0; i < count; i++) {
    workers[i].rng.state = rng_next(rng);
    workers[i].run = run;
    workers[i].number = i;
    workers[i].progress = 0;
    int error = pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
    REQUIRE(error == 0, "pthread_create: %s", strerror(error));
  }
}

static void workers_join(size_t count) {
  for (size_t i = 0; i < count; i++) pthread_join(workers[i].thread, NULL);
}

static void pause_us(unsigned us) {
  struct timespec time = {0, (long)us * 1000};
  nanosleep(&time, NULL);
}

/* ---- scenario: trees go round ---- */

static void exchange_run(struct worker *worker) {
  for (size_t i = 0; i < steps; i++) exchange_once(&worker->rng);
}

static void scenario_exchange(struct rng *rng) {
  workers_start(rng, thread_count, exchange_run);
  workers_join(thread_count);
  shared_clear();
}

/* ---- scenario: everybody collects at the same moment ---- */

static void collectors_run(struct worker *worker) {
  struct tree *tree = tree_build(&worker->rng, 8);
  for (int i = 0; i < 6; i++) {
    pthread_barrier_wait(&barrier);
    midden_collect();
    tree_check(tree);
    spoil_free_memory();
  }
  tree_check(tree);
}

static void scenario_collectors(struct rng *rng) {
  pthread_barrier_init(&barrier, NULL, (unsigned)thread_count);
  workers_start(rng, thread_count, collectors_run);
  workers_join(thread_count);
  pthread_barrier_destroy(&barrier);
}

/* ---- scenario: threads come and go ---- */

static pthread_key_t late_key; /* its destructor uses the heap when the thread is almost gone */
static sem_t detached_ended;

static void late_destructor(void *value) {
  struct rng rng = {(uintptr_t)value};
  tree_check(tree_build(&rng, 4));
}

static void short_life(struct rng *rng) {
  struct tree *tree = tree_build(rng, (unsigned)rng_below(rng, 6));
  if (rng_one_in(rng, 3)) {
    tree_check(slot_swap(rng_below(rng, SHARED_SLOTS), tree));
    REQUIRE(midden_thread_detach() == 0 && !midden_thread_is_attached(), "midden_thread_detach");
    if (rng_one_in(rng, 2)) return;
    tree = tree_build(rng, 5); /* attaches again */
    REQUIRE(midden_thread_is_attached(), "a thread that allocates is attached");
  }
  if (rng_one_in(rng, 3)) pthread_setspecific(late_key, (void *)(uintptr_t)(rng_next(rng) | 1));
  if (rng_one_in(rng, 10)) midden_collect();
  tree_check(slot_swap(rng_below(rng, SHARED_SLOTS), tree));
}

static void *short_joined(void *argument) {
  struct rng rng = {(uintptr_t)argument};
  short_life(&rng);
  if (rng_one_in(&rng, 2)) pthread_exit(NULL);
  return NULL;
}

static void *short_detached(void *argument) {
  struct rng rng = {(uintptr_t)argument};
  short_life(&rng);
  sem_post(&detached_ended);
  return NULL;
}

/* Never touches the heap: the collector must not miss it, nor stumble over it. */
static void *short_stranger(void *argument) {
  pause_us((unsigned)((uintptr_t)argument % 300));
  return NULL;
}

static void churn_run(struct worker *worker) {
  for (size_t i = 0; i < steps / 10 + 1; i++) {
    size_t choice = rng_below(&worker->rng, 4);
    void *(*const run)(void *) = choice == 0 ? short_detached : choice == 1 ? short_stranger : short_joined;
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run, (void *)(uintptr_t)rng_next(&worker->rng));
    REQUIRE(error == 0, "pthread_create: %s", strerror(error));
    if (run == short_detached) {
      pthread_detach(thread);
      while (sem_wait(&detached_ended) != 0) continue;
    } else {
      pthread_join(thread, NULL);
    }
    if (rng_one_in(&worker->rng, 20)) midden_collect();
  }
}

static void scenario_churn(struct rng *rng) {
  size_t creators = thread_count < 4 ? thread_count : 4;
  sem_init(&detached_ended, 0, 0);
  workers_start(rng, creators, churn_run);
  workers_join(creators);
  shared_clear();
  sem_destroy(&detached_ended);
  /* The last detached ones may still be on their way out. */
  for (int tries = 0; test_stats().threads != 1; tries++) {
    REQUIRE(tries < 2000, "%zu threads are attached, all but one have ended", test_stats().threads);
    pause_us(1000);
  }
}

/* ---- scenario: threads that wait in the kernel ---- */

/* In the frame that calls midden_blocking_call: deeper ones are not scanned while the thread blocks. */
struct blocked {
  struct rng *rng;
  struct tree *tree;
  struct tree *made; /* by the active part */
};

NOINLINE_TEST static void wait_in_kernel(struct rng *rng) { pause_us((unsigned)rng_below(rng, 2000)); }

/* With every signal blocked: a collector that signals a thread that counts as stopped would hang here. */
static void wait_unsignalled(struct rng *rng) {
  sigset_t all, old;
  sigfillset(&all);
  struct tree *tree = tree_build(rng, 5);
  midden_blocking_enter();
  pthread_sigmask(SIG_SETMASK, &all, &old);
  wait_in_kernel(rng);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  midden_blocking_leave();
  tree_check(tree);
}

static void *active_part(void *argument) {
  struct blocked *blocked = argument;
  struct tree *tree = tree_build(blocked->rng, 6);
  tree_check(blocked->tree);
  if (rng_one_in(blocked->rng, 10)) midden_collect();
  spoil_free_memory();
  tree_check(tree);
  blocked->made = tree;
  return argument;
}

static void *blocking_part(void *argument) {
  struct blocked *blocked = argument;
  wait_in_kernel(blocked->rng);
  void *result = midden_active_call(active_part, argument);
  wait_in_kernel(blocked->rng);
  return result;
}

static void blocking_run(struct worker *worker) {
  for (size_t i = 0; i < steps / 20 + 1; i++) {
    wait_unsignalled(&worker->rng);
    struct blocked blocked = {&worker->rng, tree_build(&worker->rng, 4), NULL};
    REQUIRE(midden_blocking_call(blocking_part, &blocked) == &blocked, "midden_blocking_call lost its result");
    REQUIRE(blocked.made != NULL, "the active part did not run");
    tree_check(blocked.made);
    tree_check(blocked.tree);
    REQUIRE(midden_active_call(active_part, &blocked) == &blocked, "midden_active_call without midden_blocking_call");
  }
  worker->progress = 1;
}

static bool all_have_progress(size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (workers[i].progress == 0) return false;
  }
  return true;
}

static void scenario_blocking(struct rng *rng) {
  workers_start(rng, thread_count, blocking_run);
  while (!all_have_progress(thread_count)) {
    midden_collect();
    spoil_free_memory();
  }
  workers_join(thread_count);
}

/* ---- scenario: the only reference is thread-local ---- */

static _Thread_local struct tree *local_tree;
static pthread_key_t tree_key; /* created first, so that its values lie in the thread's control block */

static void store_specific(const struct tree *fresh) {
  bool active = midden_barrier_begin();
  const struct tree *old = pthread_getspecific(tree_key);
  pthread_setspecific(tree_key, fresh);
  if (active) {
    midden_barrier_record(NULL, old, fresh);
  } else {
    midden_barrier_end();
  }
}

NOINLINE_TEST static void keep_locally(struct rng *rng) {
  midden_store(&local_tree, tree_build(rng, 7));
  store_specific(tree_build(rng, 7));
}

static void local_run(struct worker *worker) {
  for (int round = 0; round < 4; round++) {
    keep_locally(&worker->rng);
    test_scrub_stack();
    pthread_barrier_wait(&barrier); /* the main thread collects */
    pthread_barrier_wait(&barrier);
    tree_check(local_tree);
    tree_check(pthread_getspecific(tree_key));
    spoil_free_memory();
  }
  midden_store(&local_tree, NULL);
  store_specific(NULL);
}

static void scenario_local(struct rng *rng) {
  pthread_barrier_init(&barrier, NULL, (unsigned)thread_count + 1);
  workers_start(rng, thread_count, local_run);
  for (int round = 0; round < 4; round++) {
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 2; i++) {
      midden_collect();
      spoil_free_memory();
    }
    pthread_barrier_wait(&barrier);
  }
  workers_join(thread_count);
  pthread_barrier_destroy(&barrier);
}

/* ---- scenario: longjmp ---- */

NOINLINE_TEST static void dive(struct rng *rng, jmp_buf back, unsigned depth) {
  struct tree *tree = tree_build(rng, (unsigned)rng_below(rng, 4));
  if (rng_one_in(rng, 30)) return;
  if (depth == 0 || rng_one_in(rng, 30)) longjmp(back, 1);
  dive(rng, back, depth - 1);
  tree_check(tree);
}

static void jump_run(struct worker *worker) {
  struct tree *volatile kept = NULL;
  for (volatile size_t i = 0; i < steps; i++) {
    jmp_buf back;
    struct tree *tree = tree_build(&worker->rng, 5);
    kept = tree;
    if (setjmp(back) == 0) dive(&worker->rng, back, 25);
    tree_check(kept);
    if (rng_one_in(&worker->rng, 300)) midden_collect();
  }
}

static void scenario_jump(struct rng *rng) {
  workers_start(rng, thread_count, jump_run);
  workers_join(thread_count);
}

/* ---- scenario: a storm of signals, handled on alternate stacks ---- */

enum { ALTERNATE_BYTES = 64 << 10, ERRNO_MARK = 4242 };

/* Between two runs of the handler the tree is here; while it runs, on the alternate stack and nowhere else. */
static _Thread_local struct tree *volatile handler_tree;
static _Thread_local volatile uint64_t handler_sum;
static atomic_size_t handler_runs;

static void storm_handler(int signal) {
  int saved = errno;
  struct tree *tree = handler_tree;
  handler_tree = NULL;
  errno = signal;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < 20000; i++) sum += test_mix(sum + i);
  handler_sum = sum;
  tree_check(tree);
  handler_tree = tree;
  atomic_fetch_add(&handler_runs, 1);
  errno = saved;
}

NOINLINE_TEST static void storm_prepare(struct rng *rng) { handler_tree = tree_build(rng, 3); }

/* Nothing here sets errno, except a handler or a stop that does not keep it.  The sum is kept in registers. */
NOINLINE_TEST static void storm_arithmetic(struct rng *rng) {
  uint64_t sum = 0, again = 0, from = rng_next(rng);
  double product = 1.0, same = 1.0;
  errno = ERRNO_MARK;
  for (uint64_t i = 0; i < 3000; i++) sum += test_mix(from + i), product = product * 1.0000001 + 1e-9;
  for (uint64_t i = 0; i < 3000; i++) again += test_mix(from + i), same = same * 1.0000001 + 1e-9;
  REQUIRE(errno == ERRNO_MARK, "errno became %d", errno);
  REQUIRE(sum == again && memcmp(&product, &same, sizeof(same)) == 0, "a register was damaged");
}

static void storm_run(struct worker *worker) {
  stack_t alternate = {.ss_sp = malloc(ALTERNATE_BYTES), .ss_size = ALTERNATE_BYTES};
  REQUIRE(alternate.ss_sp != NULL && sigaltstack(&alternate, NULL) == 0, "sigaltstack: %s", strerror(errno));
  storm_prepare(&worker->rng);
  test_scrub_stack();
  worker->progress = 1;
  for (size_t i = 0; i < steps; i++) {
    exchange_once(&worker->rng);
    storm_arithmetic(&worker->rng);
  }
  worker->progress = 2;
  pthread_barrier_wait(&barrier); /* until the storm is over */
  tree_check(handler_tree);
  alternate.ss_flags = SS_DISABLE;
  sigaltstack(&alternate, NULL);
  free(alternate.ss_sp);
}

/* Sends a round of signals; false when every worker is done. */
static bool storm_round(size_t count) {
  bool any = false;
  for (size_t i = 0; i < count; i++) {
    if (workers[i].progress == 1) pthread_kill(workers[i].thread, SIGUSR1);
    any |= workers[i].progress != 2;
  }
  return any;
}

static void scenario_storm(struct rng *rng) {
  struct sigaction action = {.sa_handler = storm_handler, .sa_flags = SA_ONSTACK | SA_RESTART};
  sigaction(SIGUSR1, &action, NULL);
  pthread_barrier_init(&barrier, NULL, (unsigned)thread_count + 1);
  workers_start(rng, thread_count, storm_run);
  while (storm_round(thread_count)) {
    pause_us(300);
    midden_collect();
  }
  pthread_barrier_wait(&barrier);
  workers_join(thread_count);
  pthread_barrier_destroy(&barrier);
  shared_clear();
  REQUIRE(handler_runs != 0, "no signal was ever handled");
}

/* ---- scenario: fork in the middle ---- */

static void fork_run(struct worker *worker) {
  while (!stop_workers) {
    exchange_once(&worker->rng);
    worker->progress = 1;
  }
}

/* A thread that begins may hold locks of a sanitizer's, which a child would never get. */
static void workers_await_begin(size_t count) {
  for (size_t i = 0; i < count; i++) {
    while (workers[i].progress == 0) pause_us(200);
  }
}

static void *child_thread(void *argument) {
  struct rng *rng = argument;
  for (int i = 0; i < 50; i++) exchange_once(rng);
  return NULL;
}

/* In the child nobody else runs, and who held a mutex of the shared slots never gives it back. */
static void child_run(struct rng *rng) {
  alarm(60);
  for (size_t i = 0; i < SHARED_SLOTS; i++) tree_check(shared_slots[i].tree);
  midden_collect();
  spoil_free_memory();
  for (size_t i = 0; i < SHARED_SLOTS; i++) {
    tree_check(shared_slots[i].tree);
    pthread_mutex_init(&shared_slots[i].mutex, NULL);
  }
  for (int i = 0; i < 100; i++) exchange_once(rng);
  pthread_t thread;
  struct rng other = {rng_next(rng)};
  REQUIRE(pthread_create(&thread, NULL, child_thread, &other) == 0, "no thread in the child");
  for (int i = 0; i < 3; i++) midden_collect();
  pthread_join(thread, NULL);
  for (size_t i = 0; i < SHARED_SLOTS; i++) tree_check(shared_slots[i].tree);
  REQUIRE(test_stats().threads == 1, "%zu threads in a child of one", test_stats().threads);
  midden_verify();
  _exit(0);
}

static void scenario_fork(struct rng *rng) {
  workers_start(rng, thread_count, fork_run);
  workers_await_begin(thread_count);
  for (size_t i = 0; i < 8 + steps / 200; i++) {
    for (size_t j = rng_below(rng, 50); j > 0; j--) exchange_once(rng);
    pid_t child = fork();
    REQUIRE(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) child_run(rng);
    int status;
    while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR, "waitpid: %s", strerror(errno));
    REQUIRE(status == 0, "child ended with status 0x%x", (unsigned)status);
  }
  stop_workers = true;
  workers_join(thread_count);
  shared_clear();
}

/* ---- scenario: libraries come and go ---- */

enum { LIBRARIES = 6 };

static char library_directory[] = "/tmp/midden_test_XXXXXX";
static char library_paths[LIBRARIES][64];

static const char library_source[] =
    "void *library_slot;"
    "static __thread void *local;"
    "void **library_local(void) { return &local; }";

/* Compiles a library and copies it under several names.  False where there is no compiler. */
static bool libraries_make(void) {
  char command[512];
  REQUIRE(mkdtemp(library_directory) != NULL, "mkdtemp: %s", strerror(errno));
  for (int i = 0; i < LIBRARIES; i++) {
    snprintf(library_paths[i], sizeof(library_paths[i]), "%s/library%d.so", library_directory, i);
  }
  snprintf(command, sizeof(command), "echo '%s' | cc -shared -fPIC -x c - -o %s 2>/dev/null", library_source,
           library_paths[0]);
  if (system(command) != 0) return false;
  for (int i = 1; i < LIBRARIES; i++) {
    snprintf(command, sizeof(command), "cp %s %s", library_paths[0], library_paths[i]);
    REQUIRE(system(command) == 0, "%s", command);
  }
  return true;
}

static void libraries_remove(void) {
  for (int i = 0; i < LIBRARIES; i++) unlink(library_paths[i]);
  rmdir(library_directory);
}

struct library {
  void *handle;
  struct tree **slot;  /* in its static data */
  struct tree **local; /* in its thread-local storage */
};

NOINLINE_TEST static void library_fill(const struct library *library, struct rng *rng) {
  midden_store(library->slot, tree_build(rng, 5));
  midden_store(library->local, tree_build(rng, 5));
}

NOINLINE_TEST static void library_check(const struct library *library) {
  tree_check(*library->slot);
  tree_check(*library->local);
  midden_store(library->slot, NULL);
  midden_store(library->local, NULL);
}

/* Each thread has a library of its own: while it is loaded it is the only holder of two trees. */
static void library_run(struct worker *worker) {
  for (size_t i = 0; i < steps / 20 + 1; i++) {
    struct library library = {.handle = dlopen(library_paths[worker->number % LIBRARIES], RTLD_NOW | RTLD_LOCAL)};
    REQUIRE(library.handle != NULL, "dlopen: %s", dlerror());
    void **(*local)(void) = (void **(*)(void))(uintptr_t)dlsym(library.handle, "library_local");
    library.slot = dlsym(library.handle, "library_slot");
    library.local = (struct tree **)local();
    library_fill(&library, &worker->rng);
    test_scrub_stack();
    if (rng_one_in(&worker->rng, 3)) midden_collect();
    pause_us((unsigned)rng_below(&worker->rng, 2000));
    spoil_free_memory();
    library_check(&library);
    dlclose(library.handle);
  }
  worker->progress = 1;
}

static void scenario_libraries(struct rng *rng) {
  size_t count = thread_count < LIBRARIES ? thread_count : LIBRARIES;
  if (!libraries_make()) {
    printf("  no compiler: libraries skipped\n");
    libraries_remove();
    return;
  }
  workers_start(rng, count, library_run);
  while (!all_have_progress(count)) {
    midden_collect();
    spoil_free_memory();
  }
  workers_join(count);
  libraries_remove();
}

/* ---- scenario: the world stopped by the program ---- */

static void count_run(struct worker *worker) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  while (!stop_workers) {
    atomic_fetch_add_explicit(&worker->progress, 1, memory_order_relaxed);
    if (rng_one_in(&worker->rng, 1000)) REQUIRE(midden_alloc(100) != NULL, "out of memory");
  }
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static size_t total_progress(size_t count) {
  size_t total = 0;
  for (size_t i = 0; i < count; i++) total += workers[i].progress;
  return total;
}

static void scenario_world(struct rng *rng) {
  workers_start(rng, thread_count, count_run);
  while (!all_have_progress(thread_count)) pause_us(100);
  for (size_t i = 0; i < 5 + steps / 100; i++) {
    midden_world_stop();
    size_t before = total_progress(thread_count);
    for (uint64_t end = now_ns() + 500000; now_ns() < end;) continue;
    size_t after = total_progress(thread_count);
    midden_world_resume();
    REQUIRE(before == after, "%zu steps while the world was stopped", after - before);
    for (int tries = 0; total_progress(thread_count) == after; tries++) {
      REQUIRE(tries < 100000, "the world does not run again");
      pause_us(100);
    }
    if (rng_one_in(rng, 4)) midden_collect();
  }
  stop_workers = true;
  workers_join(thread_count);
}

/* ---- scenario: calls that exclude each other and collections ---- */

static size_t locked_count; /* only touched inside of midden_locked_call */
static bool locked_inside;

static void *locked_part(void *argument) {
  REQUIRE(!locked_inside, "two threads inside of midden_locked_call");
  locked_inside = true;
  locked_count++;
  sched_yield();
  locked_inside = false;
  return argument;
}

static void locked_run(struct worker *worker) {
  for (size_t i = 0; i < steps; i++) {
    struct tree *tree = tree_build(&worker->rng, 2);
    REQUIRE(midden_locked_call(locked_part, tree) == tree, "midden_locked_call lost its result");
    tree_check(tree);
    if (rng_one_in(&worker->rng, 100)) midden_collect();
  }
}

static void scenario_locked(struct rng *rng) {
  locked_count = 0;
  workers_start(rng, thread_count, locked_run);
  workers_join(thread_count);
  REQUIRE(locked_count == steps * thread_count, "%zu calls, not %zu", locked_count, steps * thread_count);
}

/* ---- start ---- */

struct scenario {
  const char *name;
  void (*run)(struct rng *rng);
};

static const struct scenario scenarios[] = {
    {"exchange", scenario_exchange},   {"collectors", scenario_collectors},
    {"churn", scenario_churn},         {"blocking", scenario_blocking},
    {"local", scenario_local},         {"jump", scenario_jump},
    {"storm", scenario_storm},         {"fork", scenario_fork},
    {"libraries", scenario_libraries}, {"world", scenario_world},
    {"locked", scenario_locked},
};

static void set_up(struct rng *rng) {
  size_t most = (size_t)test_environment_number("MIDDEN_TEST_THREADS", 2 + rng_below(rng, 7));
  thread_count = most < THREADS_MAX ? most : THREADS_MAX;
  pthread_key_create(&tree_key, NULL);
  pthread_key_create(&late_key, late_destructor);
  for (size_t i = 0; i < SHARED_SLOTS; i++) pthread_mutex_init(&shared_slots[i].mutex, NULL);
}

/* With arguments: only the scenarios named. */
static bool is_chosen(const char *name, int count, char **arguments) {
  if (count < 2) return true;
  for (int i = 1; i < count; i++) {
    if (strcmp(arguments[i], name) == 0) return true;
  }
  return false;
}

/* In dirty-page mode: shorter ranges of static data are not watched. */
extern size_t roots_long_bytes;

int main(int argument_count, char **arguments) {
  struct rng rng = test_start("test_threads");
  roots_long_bytes = 0;
  steps = test_steps(3000);
  set_up(&rng);
  for (size_t i = 0; i < TEST_COUNT_OF(scenarios); i++) {
    if (!is_chosen(scenarios[i].name, argument_count, arguments)) continue;
    uint64_t start = now_ns(), collections = test_stats().collections;
    alarm(HANG_SECONDS); /* a hang is a failure too */
    scenarios[i].run(&rng);
    midden_verify();
    printf("  %-10s %zu threads, %" PRIu64 " collections, %" PRIu64 " ms\n", scenarios[i].name, thread_count,
           test_stats().collections - collections, (now_ns() - start) / 1000000);
    fflush(stdout);
  }
  return 0;
}
