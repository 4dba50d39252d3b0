/* Finalizers: closing a file when the object that stands for it is lost.
 *
 * The library never runs a finalizer by itself: the program does, where it suits it.  Here between two pieces of work;
 * a program with locks would give them a thread of their own. */
#include <assert.h>
#include <midden/midden.h>
#include <stdio.h>

struct log_file {
  FILE *stream; /* of the C library: the collector knows nothing of it */
};

static int closed_count;

static void close_log(void *object, void *argument) {
  struct log_file *file = object;
  (void)argument;
  fclose(file->stream);
  closed_count++;
}

static struct log_file *open_log(void) {
  struct log_file *file = midden_alloc(sizeof *file);
  assert(file != NULL);
  file->stream = tmpfile();
  assert(file->stream != NULL);
  int error = midden_finalizer_set(file, close_log, NULL, MIDDEN_FINALIZE_UNORDERED, NULL, NULL);
  assert(error == 0);
  return file;
}

static void work(void) {
  struct log_file *file = open_log();
  fputs("some work was done\n", file->stream);
  /* ... and is forgotten */
}

int main(void) {
  enum { PIECES = 100 };
  for (int i = 0; i < PIECES; i++) {
    work();
    if (i % 10 != 9) continue;
    midden_collect();
    midden_finalizers_run(SIZE_MAX);
  }
  printf("%d of %d files were closed while the program ran\n", closed_count, PIECES);
  assert(closed_count >= PIECES / 2);

  midden_finalizers_ready_all(); /* for the program's end: reachable or not */
  midden_finalizers_run(SIZE_MAX);
  assert(closed_count == PIECES);
  return 0;
}
