from training.startup import tell_in_one_line

tell_in_one_line()
