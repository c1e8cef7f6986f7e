// Work on several cores. Who takes which task is left to chance, so that results must not depend on it.
#pragma once
#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>
#ifndef _WIN32
#include <pthread.h>
#endif

// Of what runs on one core or on several, there is one machine code: a second, inlined, might add up in another order.
#ifdef __clang__
#define ONE_CODE __attribute__((noinline)) static
#else
#define ONE_CODE __attribute__((noinline, noclone)) static
#endif

// Threads that wait for work; they end with the process. One caller at a time has them.
class Pool {
   public:
    // Call work(0) to work(n_tasks - 1) on up to n_threads cores, this one among them; the first exception is thrown on.
    template <class Do>
    static void run(int64_t n_threads, int64_t n_tasks, Do&& work) {
        n_threads = std::min(n_threads, n_tasks);
        std::unique_lock<std::mutex> alone(busy(), std::defer_lock);
        if (n_threads < 2 || !alone.try_lock()) {  // somebody else's work fills the cores already
            for (int64_t task = 0; task < n_tasks; task++) work(task);
            return;
        }
        if (!current()) current() = new Pool;
        current()->work_through(n_threads - 1, n_tasks, work);
    }

    static std::mutex& busy() {
        static std::mutex mutex;
        return mutex;
    }
    static Pool*& current() {
        static Pool* pool = nullptr;
        return pool;
    }

   private:
    static constexpr int SPINS = 2000;  // some ten microseconds, less than a sleeping thread takes to wake up
    std::mutex mutex;
    std::condition_variable begun, ended;
    std::vector<std::thread> threads;
    std::function<void()> job;
    std::atomic<int64_t> round{0}, wanted{0}, working{0}, next{0};
    std::exception_ptr failure;

    void work_through(int64_t n_helpers, int64_t n_tasks, const std::function<void(int64_t)>& work) {
        while (int64_t(threads.size()) < n_helpers) threads.emplace_back([this, seen = round.load()] { serve(seen); });
        next = 0, failure = nullptr;
        job = [&] {
            try {
                for (int64_t task; (task = next++) < n_tasks;) work(task);
            } catch (...) {
                std::lock_guard<std::mutex> lock(mutex);
                failure = std::current_exception(), next = n_tasks;
            }
        };
        {
            std::lock_guard<std::mutex> lock(mutex);
            wanted = working = n_helpers, round++;
        }
        begun.notify_all();
        job();
        for (int i = 0; i < SPINS && working; i++) pause();
        std::unique_lock<std::mutex> lock(mutex);
        ended.wait(lock, [&] { return !working; });
        if (failure) std::rethrow_exception(failure);
    }

    void serve(int64_t seen) {
        for (;; seen++) {
            for (int i = 0; i < SPINS && round == seen; i++) pause();
            {
                std::unique_lock<std::mutex> lock(mutex);
                begun.wait(lock, [&] { return round != seen; });
                if (wanted == 0) continue;
                wanted--;
            }
            job();
            std::lock_guard<std::mutex> lock(mutex);
            if (--working == 0) ended.notify_one();
        }
    }

    static void pause() {
#ifdef __SSE2__
        __builtin_ia32_pause();
#endif
    }
};

#ifndef _WIN32
// A child has none of its parent's threads, and must not inherit a mutex that one of them holds.
static const int without_threads = pthread_atfork([] { Pool::busy().lock(); }, [] { Pool::busy().unlock(); },
                                                  [] { Pool::current() = nullptr, Pool::busy().unlock(); });
#endif
