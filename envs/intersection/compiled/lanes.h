// The lanes of the junction, vehicle by vehicle: ../lanes.py, where the reasons and the sources are. In all files of this
// folder every operation is that of the NumPy rules, in their order, so that not a bit of the games differs.
//
// Sines, arc tangents and the like are left to NumPy, whose last bits no other library has. Functions with a pass are
// called twice: ASK writes down which angles they need (q_y, q_x), NumPy finds them all, USE does the work with them.
// The struct Frame comes from traffic.py, which puts it in front of this text.

#include <cmath>
#include <limits>

namespace {

const double INF = std::numeric_limits<double>::infinity(), PI = 3.141592653589793;
const double DT = 1.0 / 15, LIMIT = 10, REACH = 5, BESIDE = 3, MEASURED = 6, ACCESS = 100, MOST_SPEED = 40;
const int LANES = 20, STRAIGHT = 3, OUT = 4, TIMES = 11, VIEWS = 5;
enum Pass { ASK, USE };

double clip(double value, double least, double most) { return value < least ? least : value > most ? most : value; }

double wrap(double angle) {  // NumPy's remainder; near zero it is the number itself, or exactly a turn less
    const double turn = 2 * PI;
    double left = angle + PI;
    if (left >= turn && left < 2 * turn) {
        left -= turn;
    } else if (!(left > -turn && left < turn)) {
        left = std::fmod(left, turn);
    }
    return (left < 0 ? left + turn : left) - PI;
}

double not_zero(double value) { return std::fabs(value) > 1e-2 ? value : value >= 0 ? 1e-2 : -1e-2; }

struct Place { double s, r; };

// The arc tangents of a function, asked or used in the same order.
struct Angles {
    Frame& f;
    Pass pass;
    int64_t n = 0;
    double of(double y, double x) {
        if (pass == USE) return f.q_angle[n++];
        f.q_y[n] = y, f.q_x[n++] = x;
        return 0;
    }
};

Place on_arc(const Frame& f, int lane, double dx, double dy, double angle) {
    double start = f.phase[lane], side = f.clockwise[lane], radius = f.radius[lane];
    double phase = start + wrap(angle - start);
    return {side * (phase - start) * radius, side * (radius - std::sqrt(dx * dx + dy * dy))};
}

Place on_line(const Frame& f, int lane, double dx, double dy) {
    return {dx * f.along_x[lane] + dy * f.along_y[lane], dy * f.along_x[lane] - dx * f.along_y[lane]};
}

Place coordinates(const Frame& f, int lane, double x, double y, Angles& angles) {
    double dx = x - f.origin_x[lane], dy = y - f.origin_y[lane];
    return f.is_arc[lane] ? on_arc(f, lane, dx, dy, angles.of(dy, dx)) : on_line(f, lane, dx, dy);
}

double heading_at(const Frame& f, int lane, double s) {
    if (!f.is_arc[lane]) return f.heading_of[lane];
    double side = f.clockwise[lane];
    return side * s / f.radius[lane] + f.phase[lane] + PI / 2 * side;
}

// Fill in the nearest lane, s, r and from where vehicle i is seen; false: no lane is near, measure all arcs.
bool survey(Frame& f, int64_t i, double beside, Angles& angles) {
    Place at[LANES];
    double on[LANES], quarters[4], best = INF;
    int nearest = 0;
    for (int q = 0; q < 4; ++q) quarters[q] = angles.pass == ASK ? 0 : std::fabs(wrap(f.heading[i] - PI / 2 * q));
    for (int lane = 0; lane < LANES; ++lane) {
        double dx = f.x[i] - f.origin_x[lane], dy = f.y[i] - f.origin_y[lane], angle = quarters[f.direction_of[lane]];
        if (f.is_arc[lane]) {
            at[lane] = {INF, f.clockwise[lane] * (f.radius[lane] - std::sqrt(dx * dx + dy * dy))};
            if (!(std::fabs(at[lane].r) <= beside)) continue;
            at[lane].s = on_arc(f, lane, dx, dy, angles.of(dy, dx)).s;
            angle = std::fabs(wrap(f.heading[i] - heading_at(f, lane, at[lane].s)));
        } else if (angles.pass == ASK) {
            continue;
        } else {
            at[lane] = on_line(f, lane, dx, dy);
        }
        double over = at[lane].s - f.length[lane], before = 0 - at[lane].s;
        double away = std::fabs(at[lane].r) + (over > 0 ? over : 0) + (before > 0 ? before : 0) + angle;
        if (away < best) best = away, nearest = lane;
    }
    if (angles.pass == ASK) return true;
    f.lane[i] = nearest, f.s[i] = at[nearest].s, f.r[i] = at[nearest].r;
    for (int lane = 0; lane < LANES; ++lane) {
        double s = at[lane].s;
        bool is_there = std::fabs(at[lane].r) <= BESIDE && s >= -REACH && s < f.length[lane] + REACH;
        on[lane] = is_there ? s : INF;
    }
    for (int lane = 0; lane < LANES; ++lane) {
        double seen = on[lane];
        for (int v = 1; v < VIEWS && seen == INF; ++v) {
            int64_t other = f.view[VIEWS * lane + v];
            if (other < 0) break;
            seen = on[other] + f.view_added[VIEWS * lane + v];
        }
        f.seen[LANES * i + lane] = seen;
    }
    return best <= MEASURED;
}

}  // namespace
