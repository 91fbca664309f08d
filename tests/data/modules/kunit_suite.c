// SPDX-License-Identifier: GPL-2.0-only
/* Two KUnit suites: one with every outcome that a case can have, one where all is well. */

#include <kunit/test.h>
#include <linux/module.h>

static void adds(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 2 + 2, 4);
}

static void is_wrong(struct kunit *test)
{
	int sum = 2 + 2;

	KUNIT_EXPECT_EQ_MSG(test, sum, 5, "in this arithmetic");
	KUNIT_EXPECT_TRUE(test, sum > 4);
}

static void is_skipped(struct kunit *test)
{
	kunit_skip(test, "no such hardware");
}

static const int squares[] = { 1, 4, 5 };
KUNIT_ARRAY_PARAM(square, squares, NULL);

static void is_a_square(struct kunit *test)
{
	const int *value = test->param_value;

	KUNIT_ASSERT_NE(test, *value, 5);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(adds),
	KUNIT_CASE(is_wrong),
	KUNIT_CASE(is_skipped),
	KUNIT_CASE_PARAM(is_a_square, square_gen_params),
	{}
};

static struct kunit_case good_cases[] = {
	KUNIT_CASE(adds),
	{}
};

static struct kunit_suite mixed = {
	.name = "mixed",
	.test_cases = cases,
};

static struct kunit_suite good = {
	.name = "good",
	.test_cases = good_cases,
};

kunit_test_suites(&mixed, &good);

MODULE_DESCRIPTION("A KUnit suite with every outcome");
MODULE_LICENSE("GPL");
