// Who is in front, who must yield, and who touches whom: ../drivers.py, ../priorities.py and ../collisions.py.

#include "lanes.h"

namespace {

bool is_clear(const Frame& f, int64_t i) {
    int64_t lane = f.lane[i], kind = lane % 5;
    double gap = kind == OUT ? f.s[i] : ACCESS - f.s[i], angle = std::fabs(wrap(f.heading[i] - f.heading_of[lane]));
    return gap > 6 && gap <= ACCESS && std::fabs(f.r[i]) < 0.5 && angle < 0.5;
}

// The nearest vehicle in front of vehicle i, seen at s from a lane; -1: none.
int64_t in_front(const Frame& f, int64_t i, int64_t game, int64_t lane, double s) {
    double nearest = INF;
    int64_t front = -1;
    for (int64_t j = f.first[game]; j < f.first[game + 1]; ++j) {
        double away = f.seen[LANES * j + lane] - s;
        if (away >= 0 && away < nearest && j != i) nearest = away, front = j;
    }
    return front;
}

double braking(const Frame& f, int64_t i, int64_t front, Angles& angles) {
    if (front < 0) return 0;
    double ahead = coordinates(f, f.lane[i], f.x[front], f.y[front], angles).s - f.s[i], speed = f.speed[i];
    double closing = (f.vx[i] - f.vx[front]) * f.cos[i] + (f.vy[i] - f.vy[front]) * f.sin[i];
    double gap = 7.0 + speed * 1.5 + speed * closing / (2 * std::sqrt(18.0)), ratio = gap / not_zero(ahead);
    return 6.0 * (ratio * ratio);
}

// Whether a corner, a middle of a side or the centre of one forecast rectangle lies in the other one.
bool reaches_into(const Frame& f, int64_t one, int64_t other) {
    const double across[9] = {-1, -1, 1, 1, 0, -1, 1, 0, 0}, along[9] = {-1, 1, 1, -1, 0, 0, 0, -1, 1};
    double dx = f.then_x[one] - f.then_x[other], dy = f.then_y[one] - f.then_y[other];
    for (int p = 0; p < 9; ++p) {
        double a = across[p] * 3.75, b = along[p] * 0.9;
        double x = dx + f.then_cos[one] * a - f.then_sin[one] * b, y = dy + f.then_sin[one] * a + f.then_cos[one] * b;
        if (std::fabs(f.then_cos[other] * x - f.then_sin[other] * y) <= 3.75 &&
            std::fabs(f.then_sin[other] * x + f.then_cos[other] * y) <= 0.9)
            return true;
    }
    return false;
}

bool meet(const Frame& f, int64_t one, int64_t other) {
    for (int64_t t = 0; t < TIMES; ++t) {
        int64_t a = TIMES * one + t, b = TIMES * other + t;
        double dx = f.then_x[b] - f.then_x[a], dy = f.then_y[b] - f.then_y[a];
        if (dx * dx + dy * dy <= 25 && (reaches_into(f, a, b) || reaches_into(f, b, a))) return true;
    }
    return false;
}

int64_t loser(const Frame& f, int64_t one, int64_t other) {
    int64_t first = f.priority[f.lane[one]], second = f.priority[f.lane[other]];
    double dx = f.x[other] - f.x[one], dy = f.y[other] - f.y[one];
    bool behind = dx * f.cos[one] + dy * f.sin[one] > -dx * f.cos[other] - dy * f.sin[other];
    return (first == second ? behind : first < second) ? one : other;
}

double gap(double low_a, double high_a, double low_b, double high_b) {
    double upwards = low_a < low_b ? low_b - high_a : low_a - high_b;
    double downwards = high_a > high_b ? low_a - high_b : low_b - high_a;
    return upwards > downwards ? upwards : downwards;
}

void touch(Frame& f, int64_t one, int64_t other) {
    double cos[4] = {f.cos[one], -f.sin[one], f.cos[other], -f.sin[other]};
    double sin[4] = {f.sin[one], f.cos[one], f.sin[other], f.cos[other]};
    double turn_cos = std::fabs(cos[0] * cos[2] + sin[0] * sin[2]);
    double turn_sin = std::fabs(sin[0] * cos[2] - cos[0] * sin[2]);
    double along = 2.5 * turn_cos + turn_sin, across = 2.5 * turn_sin + turn_cos;
    double mine[4] = {2.5, 1, along, across}, theirs[4] = {along, across, 2.5, 1};
    double apart_x = f.x[other] - f.x[one], apart_y = f.y[other] - f.y[one];
    double moved_x = (f.vx[one] - f.vx[other]) * DT, moved_y = (f.vy[one] - f.vy[other]) * DT;
    bool touching = true, will_touch = true;
    double widest = -INF, push_x = 0, push_y = 0;
    for (int axis = 0; axis < 4; ++axis) {
        double apart = apart_x * cos[axis] + apart_y * sin[axis], moved = moved_x * cos[axis] + moved_y * sin[axis];
        double low = apart - theirs[axis], high = apart + theirs[axis];
        touching &= gap(-mine[axis], mine[axis], low, high) <= 0;
        double then = gap((moved < 0 ? moved : 0) - mine[axis], (moved > 0 ? moved : 0) + mine[axis], low, high);
        will_touch &= then <= 0;
        if (then > widest) {
            double push = std::fabs(then) * (apart < 0 ? 1 : -1);
            widest = then, push_x = push * cos[axis], push_y = push * sin[axis];
        }
    }
    if (touching) f.crashed[one] = f.crashed[other] = 1;
    if (!will_touch) return;
    f.impact_x[other] = -push_x / 2, f.impact_y[other] = -push_y / 2;
    f.impact_x[one] = push_x / 2, f.impact_y[one] = push_y / 2;
    f.is_hit[one] = f.is_hit[other] = 1;
}

}  // namespace
