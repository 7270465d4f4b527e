/** Many runs at once, and a flood of output, that each find a container parked. */
import { toolSetting } from '../fixtures/tool-setting.ts'
import { describeFlood, describeManyAtOnce } from './load-suite.ts'

const setting = toolSetting('warm')
describeManyAtOnce(setting)
describeFlood(setting)
