// The phases of a frame, in the order in which traffic.py calls them. Each returns how many angles it asks for.

#include "rules.h"

extern "C" {

// The lane that each vehicle follows, where it is on it, and the sine of the heading that its controller asks for.
int64_t follow(Frame* frame, int64_t pass) {
    Frame& f = *frame;
    Angles angles{f, Pass(pass)};
    for (int64_t i = 0; i < f.n; ++i) {
        int64_t stage = f.stage[i], target = f.routes[f.n * stage + i];
        Place at{f.s[i], f.r[i]};
        if (target != f.lane[i]) at = coordinates(f, target, f.x[i], f.y[i], angles);
        bool unknown = pass == ASK && target != f.lane[i] && f.is_arc[target];
        bool ends = !unknown && at.s > f.length[target] - 2.5 && (f.is_ego[i] || !f.crashed[i]) && stage < 2;
        if (ends) {
            target = f.routes[f.n * ++stage + i];
            at = Place{f.s[i], f.r[i]};
            if (target != f.lane[i]) at = coordinates(f, target, f.x[i], f.y[i], angles);
        }
        if (pass == ASK) continue;
        f.stage[i] = stage, f.target[i] = target, f.target_s[i] = at.s;
        f.ahead[i] = heading_at(f, target, at.s + f.speed[i] * 0.1);
        f.sine[i] = clip(-(1 / 0.6) * at.r / not_zero(f.speed[i]), -1, 1);
        double wish = clip(f.target_speed[i], 0, LIMIT);
        f.free[i] = (f.speed[i] > 0 ? f.speed[i] : 0) / std::fabs(not_zero(wish));
    }
    return angles.n;
}

// The accelerations that drivers ask for.
int64_t accelerate(Frame* frame, int64_t pass) {
    Frame& f = *frame;
    Angles angles{f, Pass(pass)};
    for (int64_t game = 0; game < f.n_games; ++game) {
        for (int64_t i = f.first[game]; i < f.first[game + 1]; ++i) {
            if (pass == ASK) {
                bool changes = f.target[i] != f.lane[i];
                f.front[i] = f.is_ego[i] ? -1 : in_front(f, i, game, f.lane[i], f.s[i]);
                f.next_front[i] = f.is_ego[i] || !changes ? -1 : in_front(f, i, game, f.target[i], f.target_s[i]);
            }
            double free = 6.0 * (1 - f.powered[i]);
            double asked = free - braking(f, i, f.front[i], angles);
            if (f.target[i] != f.lane[i]) {
                double on_next = free - braking(f, i, f.next_front[i], angles);
                asked = on_next < asked ? on_next : asked;
            }
            if (pass == ASK) continue;
            f.acceleration[i] = clip(asked, -6, 6);
            if (f.is_ego[i]) f.acceleration[i] = 1 / 0.6 * (f.target_speed[i] - f.speed[i]);
        }
    }
    return angles.n;
}

// The sine of the slip angle that turns a vehicle to the heading asked for.
int64_t turn(Frame* frame, int64_t) {
    Frame& f = *frame;
    for (int64_t i = 0; i < f.n; ++i) {
        double wanted = f.ahead[i] + clip(f.slip[i], -PI / 4, PI / 4);
        f.sine[i] = clip(2.5 / not_zero(f.speed[i]) * (1 / 0.2 * wrap(wanted - f.heading[i])), -1, 1);
    }
    return 0;
}

// Count the frame; where it is time, who yielded may go on, and who must yield stops. Asks for directions on arcs.
int64_t regulate(Frame* frame, int64_t pass) {
    Frame& f = *frame;
    int64_t n = 0;
    for (int64_t game = 0; game < f.n_games; ++game) {
        if (pass == ASK) ++f.frames[game];
        if (f.frames[game] % 7) continue;
        for (int64_t i = f.first[game]; i < f.first[game + 1]; ++i) {
            for (int64_t t = 0; t < TIMES; ++t) {
                double s = f.s[i] + f.speed[i] * (0.25 + 0.25 * t);
                int64_t stage = f.stage[i], lane = f.routes[f.n * stage + i];
                for (int more = 0; more < 2 && s > f.length[lane] && stage < 2; ++more) {
                    s -= f.length[lane], lane = f.routes[f.n * ++stage + i];
                }
                double cos = f.cos_of[lane], sin = f.sin_of[lane];
                if (f.is_arc[lane] && pass == ASK) f.q_y[n] = heading_at(f, lane, s);
                if (f.is_arc[lane]) cos = f.q_cos[n], sin = f.q_sin[n++];
                if (pass == ASK) continue;
                int64_t at = TIMES * i + t;
                f.then_x[at] = f.origin_x[lane] + s * f.along_x[lane] + f.arc_offset[lane] * sin;
                f.then_y[at] = f.origin_y[lane] + s * f.along_y[lane] - f.arc_offset[lane] * cos;
                f.then_cos[at] = cos, f.then_sin[at] = sin;
            }
            if (pass == USE && f.yields[i]) f.target_speed[i] = LIMIT, f.yields[i] = 0;
        }
        for (int64_t one = f.first[game]; pass == USE && one < f.first[game + 1]; ++one) {
            for (int64_t other = one + 1; other < f.first[game + 1]; ++other) {
                if (!meet(f, one, other)) continue;
                int64_t stops = loser(f, one, other);
                if (!f.is_ego[stops]) f.target_speed[stops] = 0, f.yields[stops] = 1;
            }
        }
    }
    return n;
}

// The course of each vehicle, its slip and acceleration; of wrecks, none and a brake.
int64_t set_course(Frame* frame, int64_t) {
    Frame& f = *frame;
    for (int64_t i = 0; i < f.n; ++i) {
        if (f.crashed[i]) f.slip[i] = 0, f.acceleration[i] = -f.speed[i];
        double most = MOST_SPEED - f.speed[i], least = -MOST_SPEED - f.speed[i];
        if (most < 0 && most < f.acceleration[i]) f.acceleration[i] = most;
        if (least > 0 && least > f.acceleration[i]) f.acceleration[i] = least;
        f.course[i] = f.heading[i] + f.slip[i];
    }
    return 0;
}

// The kinematic bicycle model. NumPy has put cosine and sine of the course where those of the heading will be.
int64_t move(Frame* frame, int64_t) {
    Frame& f = *frame;
    for (int64_t i = 0; i < f.n; ++i) {
        double speed = f.speed[i];
        f.x[i] += speed * f.cos[i] * DT;
        f.y[i] += speed * f.sin[i] * DT;
        f.heading[i] += speed * f.sine[i] / 2.5 * DT;
        f.speed[i] += f.acceleration[i] * DT;
        if (!f.is_hit[i]) continue;
        f.x[i] += f.impact_x[i], f.y[i] += f.impact_y[i];
        f.crashed[i] = 1, f.is_hit[i] = 0, f.impact_x[i] = f.impact_y[i] = 0;
    }
    return 0;
}

// Velocities, the lane of each vehicle, and who sees it where. Once it knows: how many are near no lane.
int64_t locate(Frame* frame, int64_t pass) {
    Frame& f = *frame;
    Angles angles{f, Pass(pass)};
    int64_t n_lost = 0;
    for (int64_t i = 0; i < f.n; ++i) {
        if (pass == ASK) {
            f.vx[i] = f.speed[i] * f.cos[i], f.vy[i] = f.speed[i] * f.sin[i], f.is_surveyed[i] = 1;
            int64_t lane = f.lane[i];
            if (!f.is_arc[lane] && lane % 5 != STRAIGHT) {
                Place at = coordinates(f, lane, f.x[i], f.y[i], angles);
                f.s[i] = at.s, f.r[i] = at.r, f.is_surveyed[i] = !is_clear(f, i);
            }
            if (!f.is_surveyed[i]) {
                for (int by = 0; by < LANES; ++by) f.seen[LANES * i + by] = f.s[i] + f.seen_added[LANES * lane + by];
            }
        }
        f.is_lost[i] = f.is_surveyed[i] && !survey(f, i, MEASURED, angles);
        n_lost += f.is_lost[i];
    }
    return pass == ASK ? angles.n : n_lost;
}

// As locate, of those that were near no lane, with all arcs.
int64_t locate_lost(Frame* frame, int64_t pass) {
    Frame& f = *frame;
    Angles angles{f, Pass(pass)};
    for (int64_t i = 0; i < f.n; ++i) {
        if (f.is_lost[i]) survey(f, i, INF, angles);
    }
    return angles.n;
}

int64_t collide(Frame* frame, int64_t) {
    Frame& f = *frame;
    for (int64_t game = 0; game < f.n_games; ++game) {
        for (int64_t one = f.first[game]; one < f.first[game + 1]; ++one) {
            for (int64_t other = one + 1; other < f.first[game + 1]; ++other) {
                double dx = f.x[one] - f.x[other], dy = f.y[one] - f.y[other];
                if (std::sqrt(dx * dx + dy * dy) <= std::sqrt(29.0) + f.speed[one] * DT) touch(f, one, other);
            }
        }
    }
    return 0;
}

}
