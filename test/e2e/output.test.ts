import { toolSetting } from '../fixtures/tool-setting.ts'
import { describeFlood } from './load-suite.ts'
import { describeOutput } from './output-suite.ts'

const setting = toolSetting('cold')
describeOutput(setting)
describeFlood(setting)
