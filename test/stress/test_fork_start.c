/* A fork waits while the library starts, and while it starts a thread of its own.
 *
 * In the first start of all the child would inherit a library that is half there, and its lock.
 *
 * A thread that starts holds locks of the C library or of a sanitizer for a while, and so does who makes it.  The program
 * cannot know of the library's threads; a child that inherited such a lock could never make a thread.  Here both moments are
 * long: what the C library is called for on the way takes its time, and a fork that is asked for then must find it over. */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <pthread.h>

#include "support/heap_test.h"

enum { SLOW_US = 20000, WAIT_US = 100, WAITS_MOST = 20000, COLLECTIONS = 5 };

static int (*real_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static int (*real_getattr)(pthread_t, pthread_attr_t *);
static bool is_slow;      /* atomic */
static bool is_forking;   /* atomic; or is about to */
static unsigned starting; /* atomic; calls under way */
static unsigned created;  /* atomic */

/* Until a fork is under way, which has some time to happen then. */
static bool begin_slow(void) {
  if (!__atomic_load_n(&is_slow, __ATOMIC_ACQUIRE)) return false;
  __atomic_fetch_add(&starting, 1, __ATOMIC_ACQ_REL);
  for (int i = 0; i < WAITS_MOST && !__atomic_load_n(&is_forking, __ATOMIC_ACQUIRE); i++) usleep(WAIT_US);
  usleep(SLOW_US);
  return true;
}

static void end_slow(bool begun) {
  if (begun) __atomic_fetch_sub(&starting, 1, __ATOMIC_ACQ_REL);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
  bool begun = begin_slow();
  int error = real_create(thread, attributes, run, argument);
  if (begun) __atomic_fetch_add(&created, 1, __ATOMIC_ACQ_REL);
  end_slow(begun);
  return error;
}

/* By a thread that attaches, and by sanitizers before it runs. */
int pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes) {
  bool begun = begin_slow();
  int error = real_getattr(thread, attributes);
  end_slow(begun);
  return error;
}

/* Before sanitizers make threads, or ask for the stack of the first. */
__attribute__((constructor(101))) static void find_real(void) {
  *(void **)&real_create = dlsym(RTLD_NEXT, "pthread_create");
  *(void **)&real_getattr = dlsym(RTLD_NEXT, "pthread_getattr_np");
}

/* While the library starts. */
char *secure_getenv(const char *name) {
  bool begun = begin_slow();
  end_slow(begun);
  return getenv(name);
}

static void *start(void *unused) {
  struct midden_options options = {.size = sizeof(options), .mode = MIDDEN_MODE_BARRIER};
  __atomic_store_n(&is_slow, true, __ATOMIC_RELEASE);
  REQUIRE(midden_init(&options) == 0, "midden_init");
  return unused;
}

static int use(void *unused) {
  (void)unused;
  is_slow = false;
  void *object = midden_alloc(64);
  if (TEST_CHILD_MAY_COLLECT) midden_collect();
  return object != NULL ? 0 : 1;
}

static void fork_while_the_library_starts(void) {
  pthread_t starting_it;
  REQUIRE(pthread_create(&starting_it, NULL, start, NULL) == 0, "pthread_create");
  while (__atomic_load_n(&starting, __ATOMIC_ACQUIRE) == 0) continue;
  __atomic_store_n(&is_forking, true, __ATOMIC_RELEASE);
  test_child_succeeds("a fork while the library started", use, NULL, 20);
  pthread_join(starting_it, NULL);
  is_slow = is_forking = false;
}

/* A start that begins when a fork has called the first of its handlers: those of the program's come first. */
static pthread_t late_start;

static void *start_late(void *unused) {
  start(NULL);
  return unused;
}

static void begin_start(void) {
  REQUIRE(pthread_create(&late_start, NULL, start_late, NULL) == 0, "pthread_create");
  while (__atomic_load_n(&starting, __ATOMIC_ACQUIRE) == 0) continue;
  __atomic_store_n(&is_forking, true, __ATOMIC_RELEASE);
}

static int fork_before_the_library_starts(void *unused) {
  (void)unused;
  REQUIRE(pthread_atfork(begin_start, NULL, NULL) == 0, "pthread_atfork");
  pid_t child = fork();
  REQUIRE(child >= 0, "fork: %s", strerror(errno));
  if (child == 0) {
    alarm(20);
    _exit(use(NULL));
  }
  int status;
  while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR, "waitpid: %s", strerror(errno));
  REQUIRE(status == 0, "the child: status 0x%x", (unsigned)status);
  pthread_join(late_start, NULL);
  return 0;
}

static void *collect(void *over) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  __atomic_store_n(&is_slow, true, __ATOMIC_RELEASE);
  for (int i = 0; i < COLLECTIONS; i++) {
    void **list = NULL;
    for (int j = 0; j < 100000; j++) {
      void **cell = midden_alloc(sizeof(*cell));
      *cell = list;
      list = cell;
    }
    midden_collect();
  }
  __atomic_store_n((bool *)over, true, __ATOMIC_RELEASE);
  return NULL;
}

static int see(void *argument) {
  (void)argument;
  return (int)__atomic_load_n(&starting, __ATOMIC_ACQUIRE);
}

int main(void) {
#if defined(__SANITIZE_THREAD__)
  return 77; /* threads are stopped by polls there, and the first one makes none */
#endif
  test_child_succeeds("a fork before the library started", fork_before_the_library_starts, NULL, 30);
  fork_while_the_library_starts();
  bool is_over = false;
  pthread_t collecting;
  unsigned forks = 0; /* asked for while a thread was being started */
  REQUIRE(pthread_create(&collecting, NULL, collect, &is_over) == 0, "pthread_create");
  while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
    if (__atomic_load_n(&starting, __ATOMIC_ACQUIRE) == 0) continue;
    __atomic_store_n(&is_forking, true, __ATOMIC_RELEASE);
    test_child_succeeds("a fork while a thread was being started", see, NULL, 20);
    __atomic_store_n(&is_forking, false, __ATOMIC_RELEASE);
    forks++;
  }
  pthread_join(collecting, NULL);
  printf("test_fork_start: %u threads started, %u forks meanwhile\n", created, forks);
  REQUIRE(created != 0 && forks != 0, "nothing was started");
  return 0;
}
