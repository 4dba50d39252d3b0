/* Exceptions of C++ in fibers: each fiber is suspended inside handlers, and between a throw and its rethrow, while others do
 * the same.  The runtime's list of exceptions being handled must follow the fiber, across threads too; and the public
 * header must be C++. */
#include <midden/midden.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

constexpr int kFibers = 6, kRounds = 200;

void require(bool condition, const char *what) {
  if (condition) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::abort();
}

void yield() { midden_fiber_yield(nullptr); }

void one_round(const std::string &name) {
  try {
    yield();
    throw std::runtime_error(name);
  } catch (std::exception &) {
    yield();
    try {
      throw 5;
    } catch (int number) {
      yield();
      require(number == 5, "the inner exception is another's");
    }
    try {
      throw;
    } catch (std::runtime_error &error) {
      yield();
      require(error.what() == name, "the rethrown exception is another's");
    }
  }
  require(std::uncaught_exceptions() == 0, "an exception is left");
}

void *throw_often(void *argument) {
  const std::string name = "exception of fiber " + std::to_string(reinterpret_cast<uintptr_t>(argument));
  for (int i = 0; i < kRounds; i++) one_round(name);
  return argument;
}

/* Resumes fibers in turn until all have finished; another thread does the same. */
void resume_all(midden_fiber *const *fibers, unsigned seed) {
  for (int left = kFibers; left != 0;) {
    left = 0;
    for (int i = 0; i < kFibers; i++) {
      seed = seed * 1103515245u + 12345u;
      midden_fiber *fiber = fibers[(seed >> 16) % kFibers];
      int error = midden_fiber_resume(fiber, nullptr, nullptr);
      require(error == 0 || error == -16 /* EBUSY */ || error == -22 /* EINVAL */, "midden_fiber_resume");
      left += midden_fiber_state(fibers[i]) != MIDDEN_FIBER_FINISHED;
    }
  }
}

}  // namespace

int main() {
  midden_fiber *fibers[kFibers];
  for (uintptr_t i = 0; i < kFibers; i++) {
    fibers[i] = midden_fiber_new(throw_often, reinterpret_cast<void *>(i), 128 << 10);
    require(fibers[i] != nullptr, "midden_fiber_new");
  }
  std::thread other(resume_all, fibers, 7u);
  resume_all(fibers, 3u);
  other.join();
  return 0;
}
